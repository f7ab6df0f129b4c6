package landlock

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
)

const swapsPath = "/proc/swaps"

// swapFiles lists the files that the kernel swaps memory to, proc_swaps(5). They can be read
// by root, and by processes that bypass file modes or can become root, and hold what other
// processes had in memory. Swap partitions are devices, which are closed anyway.
func swapFiles() ([]string, error) {
	text, err := readSmall(swapsPath)
	if err != nil && missing(err) { // a kernel without swap, a container that hides it
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", swapsPath, err)
	}
	return parseSwaps(text), nil
}

// parseSwaps parses /proc/swaps. White space in a name is escaped in octal. The name of a
// deleted file has a suffix, so that it leads nowhere.
func parseSwaps(text string) []string {
	var files []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != "file" || !strings.HasPrefix(fields[0], "/") {
			continue
		}
		files = append(files, mountinfo.Unescape(fields[0]))
	}
	return files
}
