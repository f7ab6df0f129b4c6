package cli

import "strings"

// splitWords splits a command line as a shell does, as far as quoting goes:
// 'single' and "double" quotes and the backslash; nothing is expanded.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	started, escaped := false, false
	quote := rune(0)
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, started = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if started {
				words = append(words, word.String())
				word.Reset()
			}
			started = false
		default:
			word.WriteRune(c)
			started = true
		}
	}
	if quote != 0 || escaped {
		return nil, usagef("%q: a quote is not closed", line)
	}
	if started {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, usagef("%q: no command", line)
	}
	return words, nil
}

// shellQuoted prints a command line so that a shell reads the same words from it.
func shellQuoted(words []string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%"
	quoted := make([]string, len(words))
	for i, word := range words {
		if quoted[i] = word; word == "" || strings.Trim(word, plain) != "" {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
