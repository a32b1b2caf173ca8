package localpg

import "syscall"

// bindToParent detaches a server from our terminal, so that Ctrl-C there reaches
// it only through Stop, and makes it stop in good order when we are killed.
func bindToParent(attr *syscall.SysProcAttr) {
	attr.Setpgid = true
	attr.Pdeathsig = syscall.SIGINT
}
