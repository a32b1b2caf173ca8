package certificationtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// shellLimit bounds what somebody runs by hand.
const shellLimit = time.Minute

// Shell runs a script in a POSIX shell that stops at the first command that
// fails, as an administrator would who pastes it, with input and with more in the
// environment.
func Shell(t integrationtest.T, script, input string, environment ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), shellLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-eu", "-c", script)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
