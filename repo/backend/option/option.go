// Package option reads the extended options of stores, -o store.key=value.
package option

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vitrine/repo/shellwords"
)

// Apply calls for each option, whose keys are without the name of the store, its setting, which takes the value over
// into c. Errors begin with the name of the option.
func Apply[C any](c *C, store string, settings map[string]func(c *C, value string) error, options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		set, ok := settings[key]
		if !ok {
			all := strings.Join(slices.Sorted(maps.Keys(settings)), ", "+store+".")
			return fmt.Errorf("%s.%s: there is no such option; there are %s.%s", store, key, store, all)
		}
		if err := set(c, options[key]); err != nil {
			return fmt.Errorf("%s.%s: %w", store, key, err)
		}
	}
	return nil
}

// Number reads a number from 1 to most.
func Number(value string, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no number from 1 to %d", value, most)
	}
	return n, nil
}

// Layout reads the name of how files are laid out in a store, of which there is one.
func Layout(value string) error {
	if value != "default" {
		return fmt.Errorf("%q: there is only the layout called default", value)
	}
	return nil
}

// Command reads a program and its arguments.
func Command(value string) ([]string, error) {
	words, err := shellwords.Split(value)
	if err == nil && len(words) == 0 {
		err = errors.New("it names no program")
	}
	return words, err
}
