package cli

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// accepted says what may be written as the value of a flag.
func accepted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "duration":
		return "write a duration with its unit, such as 30s, 5m or 2h"
	case "n":
		return "write a whole number from 0 on, or unlimited"
	case "span":
		return "write years, months, days and hours, such as 1y5m7d2h"
	case "bool":
		return "write true or false, or no value for true"
	case "uint":
		return "write a whole number, 0 or above"
	case "int", "count":
		return "write a whole number"
	}
	return "this value cannot be read"
}

// badValue makes an error of a value that the flag parser could not read; said is the flag, or the
// variable, from which it came. Errors of another kind are returned as they are.
func badValue(said string, err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s %q: the number is too large", said, bad.GetValue())
	}
	return fmt.Errorf("%s %q: %s", said, bad.GetValue(), accepted(bad.GetFlag()))
}

// said names what set a flag: the flag itself, or a variable of the environment.
func (a *app) said(flag string) string {
	if variable, ok := a.variables[flag]; ok {
		return "$" + variable
	}
	return "--" + flag
}
