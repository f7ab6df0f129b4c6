package landlock

import (
	"slices"
	"testing"
)

func TestParseSwaps(t *testing.T) {
	text := "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
		"/dev/sda2                               partition\t1048572\t\t0\t\t-2\n" +
		"/swapfile                               file\t\t2097148\t\t0\t\t-3\n" +
		"/var/my\\040swap\\040(deleted)            file\t\t4\t\t0\t\t-4\n"
	if got, want := parseSwaps(text), []string{"/swapfile", "/var/my swap (deleted)"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
