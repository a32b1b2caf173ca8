//go:build unix && !linux

package localpg

import "syscall"

// bindToParent detaches a server from our terminal, so that Ctrl-C there reaches
// it only through Stop. When we are killed it lives on; the next Start stops it.
func bindToParent(attr *syscall.SysProcAttr) { attr.Setpgid = true }
