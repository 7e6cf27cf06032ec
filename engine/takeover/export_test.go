package takeover

// SetLayoutSuffix makes the layout another one, as in a program that is linked so.
func SetLayoutSuffix(s string) { layoutSuffix = s }
