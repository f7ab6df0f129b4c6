package policy

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Only is a list that a policy may leave out. The zero value restricts nothing: everything
// is as usual. A list made by [OnlyThese] allows what it lists and nothing else. An Only
// is immutable, so copies of it may share their elements.
type Only[T Element] struct {
	restricted bool
	list       []T // in a fixed order, each once; nil if there is none
}

// Element is what such a list consists of.
type Element interface{ string | uint16 | Rule }

// OnlyThese allows the elements and nothing else; without elements it allows nothing.
// The order of the elements makes no difference. Repeated elements count once; rules on
// the same path become one, which grants what all of them grant.
func OnlyThese[T Element](elements ...T) Only[T] {
	if len(elements) == 0 {
		return Only[T]{restricted: true}
	}
	list := slices.Clone(elements)
	switch sorted := any(list).(type) {
	case []string:
		slices.Sort(sorted)
	case []uint16:
		slices.Sort(sorted)
	case []Rule:
		list = list[:len(inOrder(sorted))]
	}
	return Only[T]{restricted: true, list: slices.Clip(slices.Compact(list))}
}

// Restricted reports whether only the listed elements are allowed.
func (o Only[T]) Restricted() bool { return o.restricted }

// None reports whether nothing is allowed.
func (o Only[T]) None() bool { return o.restricted && len(o.list) == 0 }

// Allows reports whether an element is listed, or nothing is restricted.
func (o Only[T]) Allows(element T) bool { return !o.restricted || o.Lists(element) }

// Lists reports whether an element is listed.
func (o Only[T]) Lists(element T) bool { return slices.Contains(o.list, element) }

// Len returns the number of listed elements.
func (o Only[T]) Len() int { return len(o.list) }

// List returns the listed elements: strings and ports sorted, rules in the order ls, ro,
// rox, rw, rwx and then by path. The caller owns the slice.
func (o Only[T]) List() []T { return slices.Clone(o.list) }

// With returns a list that allows more elements as well. If nothing is restricted, they
// are allowed already and the result is o itself.
func (o Only[T]) With(more ...T) Only[T] {
	if !o.restricted {
		return o
	}
	return OnlyThese(append(o.List(), more...)...)
}

// String returns "as usual", or the list.
func (o Only[T]) String() string {
	if !o.restricted {
		return "as usual"
	}
	return fmt.Sprint("only ", o.list)
}

// MarshalJSON returns null if nothing is restricted, or an array.
func (o Only[T]) MarshalJSON() ([]byte, error) {
	if o.None() {
		return []byte("[]"), nil
	}
	return json.Marshal(o.list)
}

// UnmarshalJSON reads what MarshalJSON returns.
func (o *Only[T]) UnmarshalJSON(text []byte) error {
	var list []T
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	*o = Only[T]{}
	if list != nil {
		*o = OnlyThese(list...)
	}
	return nil
}
