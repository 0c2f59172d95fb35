package main

import (
	"encoding/binary"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Moments at a fixed distance, from a timerfd in the runtime's epoll. The runtime's own timers would be up to a
// millisecond late: it rounds shorter waits up.
type ticks struct {
	timer    *os.File
	first    time.Time
	interval time.Duration
	passed   int64
}

// Ticks from one interval after the start on.
func startTicks(interval time.Duration) (*ticks, error) {
	const monotonic = 1
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("timerfd_create", errno)
	}
	// Waits in epoll, as the descriptor does not block.
	timer := os.NewFile(fd, "timerfd")
	every := syscall.NsecToTimespec(int64(interval))
	setting := struct{ interval, value syscall.Timespec }{every, every}
	first := time.Now().Add(interval)
	_, _, errno = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0)
	if errno != 0 {
		timer.Close()
		return nil, os.NewSyscallError("timerfd_settime", errno)
	}
	return &ticks{timer: timer, first: first, interval: interval}, nil
}

// Waits until at least one more tick has passed, and says how many have since the start.
func (t *ticks) wait() (int64, error) {
	var expirations [8]byte
	if _, err := t.timer.Read(expirations[:]); err != nil {
		return 0, err
	}
	t.passed += int64(binary.NativeEndian.Uint64(expirations[:]))
	return t.passed, nil
}

// When a tick was due; the first is number 0.
func (t *ticks) due(tick int64) time.Time {
	return t.first.Add(time.Duration(tick) * t.interval)
}

func (t *ticks) close() { t.timer.Close() }
