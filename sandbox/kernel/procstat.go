package kernel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcessState returns a process's state, as the letter of /proc/PID/stat, and the number
// of its parent; 0 is what is not known.
func ProcessState(pid int) (state byte, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	return parseStat(stat)
}

// parseStat reads the third and the fourth field, proc_pid_stat(5). The second is a name in
// parentheses, which can contain anything.
func parseStat(stat []byte) (state byte, parent int) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 || len(fields[0]) != 1 || fields[0][0] < 'A' || fields[0][0] > 'z' {
		return 0, 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil || parent < 0 {
		return 0, 0
	}
	return fields[0][0], parent
}

// StatusNumber returns the first number on a line of /proc/PID/status: of Uid the real one.
// The error is ENODATA if there is no such line.
func StatusNumber(pid int, key string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	n, err := parseStatus(status, key)
	if err != nil {
		return 0, fmt.Errorf("reading %s in the status of process %d: %w", key, pid, err)
	}
	return n, nil
}

func parseStatus(status []byte, key string) (int, error) {
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != key {
			continue
		}
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			break
		}
		n, err := strconv.ParseUint(string(fields[0]), 10, 32)
		return int(n), err
	}
	return 0, unix.ENODATA
}
