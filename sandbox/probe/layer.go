package probe

import (
	"encoding/json"
	"os"
	"strings"
	"time"
)

// logTail reads what a launcher's log has gained.
type logTail struct {
	path   string
	offset int64
}

// skip passes over what is there.
func (l *logTail) skip() {
	if info, err := os.Stat(l.path); err == nil {
		l.offset = info.Size()
	}
}

// logPatience is how long a launcher may take to log a refusal that has been answered.
const logPatience = 200 * time.Millisecond

// layerSoon is layerOf, once there is a new line.
func (l *logTail) layerSoon(step string, patience time.Duration) string {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if layer := l.layerOf(step); layer != "" || time.Now().After(deadline) {
			return layer
		}
	}
}

// layerOf returns the layer of the last new line about the call that step names, or
// else of the last new line at all.
func (l *logTail) layerOf(step string) string {
	data, err := os.ReadFile(l.path)
	if err != nil || int64(len(data)) <= l.offset {
		return ""
	}
	last := ""
	for line := range strings.Lines(string(data[l.offset:])) {
		var event struct{ Call, Layer string }
		if json.Unmarshal([]byte(line), &event) != nil {
			continue
		}
		last = event.Layer
		if event.Call != "" && strings.HasPrefix(strings.ToLower(step), event.Call) {
			return event.Layer
		}
	}
	return last
}
