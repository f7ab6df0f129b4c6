package cli

import (
	"encoding/binary"
	"strings"

	"github.com/memjail/memjail/sandbox/session"
)

// The systemd journal takes entries of fields as datagrams, in the protocol of
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. The journal package of go-systemd
// opens its socket with the first entry, which a supervisor's own filter refuses, and
// imports package net, which would slow every start.

// The ids of memjail's entries, sd_id128_t, one for each kind: see docs/systemd.md.
const (
	messageStart         = "89c35b536118440bb994104ba365dda2"
	messageRefused       = "b8915c57fd9f41edbfe87367e09bbd44"
	messageMount         = "102b5613e4a64e53b08e623c9690ea76"
	messageSupervisorEnd = "b7a52d3c03ff465e948ffa5ca31dde50"
	messageWarning       = "d0a53d52bffe4ae59fc5764109f96161"
	messageLost          = "aef97ef3b3cc4095837f12297d536cef"
)

// The priorities of entries, syslog(3).
const (
	priorityError   = "3"
	priorityWarning = "4"
	priorityInfo    = "6"
)

// fields is an entry as it is sent.
type fields []byte

func newFields(id, priority, event, text, policyName string) fields {
	var f fields
	f.add("MESSAGE", text)
	f.add("MESSAGE_ID", id)
	f.add("PRIORITY", priority)
	f.add("SYSLOG_IDENTIFIER", "memjail")
	f.add("MEMJAIL_EVENT", event)
	f.add("MEMJAIL_POLICY", policyName)
	return f
}

// add adds a field that has a value. A value with a line break goes with its length
// before it, so that what comes from the sandbox cannot add a field.
func (f *fields) add(name, value string) {
	value = session.Shorten(value, longestValue)
	switch {
	case value == "":
		return
	case strings.ContainsRune(value, '\n'):
		*f = append(append(*f, name...), '\n')
		*f = append(binary.LittleEndian.AppendUint64(*f, uint64(len(value))), value...)
	default:
		*f = append(append(append(*f, name...), '='), value...)
	}
	*f = append(*f, '\n')
}

// longestValue is that of a path that the kernel takes. With it an entry is far
// shorter than what a socket takes at once.
const longestValue = 4096
