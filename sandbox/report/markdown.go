package report

import "strings"

// markup are the characters by which Markdown means something, in a cell of a table.
var markup = strings.NewReplacer("\\", `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", `\<`, ">", `\>`, "|", `\|`, "[", `\[`,
	"]", `\]`, "#", `\#`, "~", `\~`, "@", "@\u200b", "&", "&amp;")

// Markdown is text for a cell of a table. What comes from policies and programs is no markup
// in it, and mentions nobody.
func Markdown(text string) string { return markup.Replace(Printable(text)) }
