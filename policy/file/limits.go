package file

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

const (
	limitsTable = "limits"
	unlimited   = "unlimited"
)

// limitUnit is a suffix of the number of a limit, and its factor.
type limitUnit struct {
	suffix string
	factor uint64
}

// limitUnits lists the suffixes of a unit. A suffix that ends with another one comes first.
func limitUnits(unit policy.Unit) []limitUnit {
	switch unit {
	case policy.UnitBytes:
		return []limitUnit{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}
	case policy.UnitSeconds:
		return []limitUnit{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}
	case policy.UnitMicroseconds:
		return []limitUnit{{"us", 1}, {"ms", 1000}, {"s", 1_000_000}}
	}
	return nil
}

func limitKeys() []*key {
	var list []*key
	for _, kind := range policy.LimitKinds() {
		list = append(list, &key{
			name: limitsTable + "." + kind.Name, shape: shapeString, want: "a number or a string",
			set:    func(b *builder, v value) { b.limit(kind, v) },
			get:    func(p *policy.Policy) any { return limitText(p, kind) },
			schema: func() node { return limitSchema(kind) },
		})
	}
	return list
}

// limit sets one limit: a number for soft and hard, or "SOFT:HARD".
func (b *builder) limit(kind policy.LimitKind, v value) {
	if v.shape != shapeInteger && v.shape != shapeString {
		b.wrong(v, "want %s", wantLimit(kind))
		return
	}
	if n, err := strconv.ParseInt(v.text, 0, 64); v.shape == shapeInteger && err == nil {
		v.text = strconv.FormatInt(n, 10) // a file may write 0x400 and 1_024
	}
	softText, hardText, two := strings.Cut(v.text, ":")
	if !two {
		hardText = softText
	}
	soft, okSoft := parseLimit(kind, softText)
	hard, okHard := parseLimit(kind, hardText)
	switch {
	case !okSoft || !okHard:
		b.wrong(v, "want %s", wantLimit(kind))
		return
	case soft > hard:
		b.wrong(v, "the soft limit is above the hard limit: want SOFT:HARD")
		return
	}
	list := b.policy.Limits
	at := 0
	for at < len(list) && list[at].Name < kind.Name {
		at++
	}
	l := policy.Limit{Name: kind.Name, Soft: soft, Hard: hard}
	if at < len(list) && list[at].Name == kind.Name {
		list[at] = l
	} else {
		list = append(list[:at:at], append([]policy.Limit{l}, list[at:]...)...)
	}
	b.policy.Limits = list
	b.note(limitsTable, "", v)
	b.note(b.key.name, "", v)
}

// parseLimit parses a number with a unit.
func parseLimit(kind policy.LimitKind, text string) (uint64, bool) {
	if text == unlimited {
		return policy.Unlimited, kind.Unlimited
	}
	factor := uint64(1)
	for _, u := range limitUnits(kind.Unit) {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = digits, u.factor
			break
		}
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > math.MaxUint64/factor || n*factor == policy.Unlimited {
		return 0, false
	}
	return n * factor, n*factor <= kind.Max
}

// wantLimit describes the values of a limit, for a message.
func wantLimit(kind policy.LimitKind) string {
	var s string
	switch kind.Unit {
	case policy.UnitBytes:
		s = `a number of bytes ("512M", "4G", 1024)`
	case policy.UnitSeconds:
		s = `a number of seconds ("90s", "10m", "1h", 30)`
	case policy.UnitMicroseconds:
		s = `a number of microseconds ("200ms", "1s", 950000)`
	default:
		s = "a number"
		if kind.Max != policy.Unlimited {
			s = fmt.Sprintf("a number from 0 to %d", kind.Max)
		}
	}
	if kind.Unlimited {
		s += `, or "unlimited"`
	}
	return s + `; for two limits "SOFT:HARD"`
}

// limitText returns a limit as a file spells it, nil if the policy has none.
func limitText(p *policy.Policy, kind policy.LimitKind) any {
	for _, l := range p.Limits {
		if l.Name != kind.Name {
			continue
		}
		soft, hard := formatLimit(kind, l.Soft), formatLimit(kind, l.Hard)
		if soft != hard {
			return soft + ":" + hard
		}
		if n, err := strconv.Atoi(soft); err == nil {
			return n
		}
		return soft
	}
	return nil
}

// formatLimit formats a number with the largest unit that leaves no remainder.
func formatLimit(kind policy.LimitKind, n uint64) string {
	if n == policy.Unlimited {
		return unlimited
	}
	best := limitUnit{"", 1}
	for _, u := range limitUnits(kind.Unit) {
		if n != 0 && n%u.factor == 0 && u.factor > best.factor {
			best = u
		}
	}
	return strconv.FormatUint(n/best.factor, 10) + best.suffix
}
