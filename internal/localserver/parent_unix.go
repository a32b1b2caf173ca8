//go:build unix && !linux

package localserver

import "syscall"

// Without Linux's signal a server outlives us when we are killed.
func bindToParent(attr *syscall.SysProcAttr, _ syscall.Signal) { attr.Setpgid = true }
