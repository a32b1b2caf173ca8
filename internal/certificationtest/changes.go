package certificationtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// What a client says without TLS, for integrationtest.Harness.Changes.

// changing is how statements begin that change something.
var changing = regexp.MustCompile(`^(?i:ALTER|CALL|COMMENT|CREATE|DELETE|DROP|GRANT|INSERT|KILL|RENAME|REPLACE|REVOKE|UPDATE|SET DEFAULT ROLE|SET PASSWORD) `)

// PostgreSQL reads simple queries and what is prepared:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
func PostgreSQL(said []byte) (changes []string) {
	// The startup message has no type.
	for startup := true; len(said) > 5; startup = false {
		typ, head := said[0], 1
		if startup {
			typ, head = 0, 0
		}
		end := head + int(binary.BigEndian.Uint32(said[head:]))
		if end > len(said) || end < head+4 {
			break
		}
		body := said[head+4 : end]
		switch typ {
		case 'Q':
			text, _, _ := bytes.Cut(body, []byte{0})
			changes = append(changes, strings.Split(string(text), ";\n")...)
		case 'P':
			if _, rest, named := bytes.Cut(body, []byte{0}); named {
				text, _, _ := bytes.Cut(rest, []byte{0})
				changes = append(changes, string(text))
			}
		}
		said = said[end:]
	}
	return onlyChanges(changes)
}

// MySQL reads queries and what is prepared, also of MariaDB:
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html
func MySQL(said []byte) (changes []string) {
	const query, prepare = 0x03, 0x16
	for len(said) > 4 {
		end := 4 + int(said[0]) + int(said[1])<<8 + int(said[2])<<16
		if end > len(said) || end == 4 {
			break
		}
		if command := said[4]; said[3] == 0 && (command == query || command == prepare) {
			changes = append(changes, string(said[5:end]))
		}
		said = said[end:]
	}
	return onlyChanges(changes)
}

func onlyChanges(statements []string) []string {
	return slices.DeleteFunc(statements, func(s string) bool { return !changing.MatchString(s) })
}

// Requests reads those of HTTP/1.1 that are no readings. What is below one of the
// paths is left out: a login, queries that are posted.
func Requests(but ...string) func(said []byte) []string {
	return func(said []byte) (changes []string) {
		in := bufio.NewReader(bytes.NewReader(said))
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return changes
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return changes
			}
			if r.Method == http.MethodGet || r.Method == http.MethodHead || slices.ContainsFunc(but, func(path string) bool { return strings.HasPrefix(r.URL.Path, path) }) {
				continue
			}
			change := r.Method + " " + r.RequestURI
			if text := strings.TrimSpace(string(body)); text != "" {
				change += "\n" + text
			}
			changes = append(changes, change)
		}
	}
}
