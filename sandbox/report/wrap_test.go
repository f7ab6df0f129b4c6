package report

import (
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "  ": "", "a": "  a\n", "aa bb cc": "  aa bb\n  cc\n",
		"longerthanaline b": "  longerthanaline\n  b\n", "ää öö": "  ää öö\n",
	} {
		var out strings.Builder
		if Wrap(&out, 8, "  ", s); out.String() != want {
			t.Errorf("%q: %q, want %q", s, out.String(), want)
		}
	}
}
