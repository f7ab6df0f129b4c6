package filter

import "runtime"

// Row is one line of what a program does not simply allow.
type Row struct {
	ABI       string // the name of the calling convention: "x86_64", "i386"
	Call      string
	Condition string // which uses of the call, in words; "" for all others
	Verdict   Verdict
	Reason    string // "" where the verdict is no denial of the table
	Key       string // the policy key that allows it, "" if none does
}

// Table says what a program that was built for this machine answers, for each of
// its ABIs in the order of the calls' numbers. It is found out by running the
// program, so it is about what would be loaded and not about how it was made. Uses
// of a call that differ in an argument have a row of their own where the built-in
// table knows them; a program of the policy's own denials has none of those.
func (p Program) Table() ([]Row, error) {
	m, ok := machineOf(runtime.GOARCH)
	if !ok {
		return nil, nil
	}
	var table []Row
	for _, a := range []*abi{m.native, m.compat} {
		for nr, call := range a.calls {
			if call == "" {
				continue
			}
			rows, err := p.rowsOf(a, int32(nr), call)
			if err != nil {
				return nil, err
			}
			table = append(table, rows...)
		}
	}
	return table, nil
}

func (p Program) rowsOf(a *abi, nr int32, call string) ([]Row, error) {
	plain, err := p.Run(Data{NR: nr, Arch: a.audit})
	if err != nil {
		return nil, err
	}
	var rows []Row
	if plain != Allow {
		row := Row{ABI: a.name, Call: call, Verdict: plain}
		if d, ok := FindDenial(call, [6]uint64{}, nil); ok {
			row.Condition, row.Reason, row.Key = d.Condition, d.Reason, d.Key
		}
		rows = append(rows, row)
	}
	for i := range rules {
		r := &rules[i]
		if !r.about(call) || len(r.when) == 0 {
			continue
		}
		args := r.example()
		v, err := p.Run(Data{NR: nr, Arch: a.audit, Args: args})
		if err != nil {
			return nil, err
		}
		if v != plain {
			rows = append(rows, Row{ABI: a.name, Call: call, Condition: r.condition, Verdict: v,
				Reason: r.reason, Key: r.key})
		}
	}
	return rows, nil
}

func (r *rule) about(call string) bool {
	for _, c := range r.calls {
		if c == call {
			return true
		}
	}
	return false
}

// example is a use of the call that the rule is about.
func (r *rule) example() [6]uint64 {
	var args [6]uint64
	for _, c := range r.when {
		switch c.op {
		case isMasked:
			args[c.arg] |= uint64(c.value)
		case isNotZero:
			args[c.arg] |= 1
		case isAny:
			args[c.arg] |= uint64(c.mask & -c.mask)
		case isBelow:
			args[c.arg] |= uint64(c.value) - 1
		case isUnlisted:
			args[c.arg] = 0 // AF_UNSPEC, which no policy lists
		case isZero, isOther:
		}
	}
	return args
}
