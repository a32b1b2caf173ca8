package localserver

import (
	"net"
	"strconv"
	"testing"
)

func TestFreePort(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Errorf("port %d was given out twice", port)
		}
		seen[port] = true
		if port < firstPort || port > lastPort {
			t.Errorf("port %d is not among those that are given out", port)
		}
		l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
		if err != nil {
			t.Errorf("port %d is not free: %v", port, err)
			continue
		}
		if PortFree(port) == nil {
			t.Errorf("port %d is free, and somebody listens", port)
		}
		l.Close()
	}
}
