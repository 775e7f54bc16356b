package option_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend/option"
)

type config struct {
	Number  int
	Command []string
}

var settings = map[string]func(c *config, value string) error{
	"number": func(c *config, value string) (err error) {
		c.Number, err = option.Number(value, 12)
		return err
	},
	"command": func(c *config, value string) (err error) {
		c.Command, err = option.Command(value)
		return err
	},
}

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		options map[string]string
		want    config
		fails   string
	}{
		{nil, config{}, ""},
		{map[string]string{"number": "12", "command": "a 'b c'"}, config{12, []string{"a", "b c"}}, ""},
		{map[string]string{"number": "0"}, config{}, `store.number: "0" is no number from 1 to 12`},
		{map[string]string{"number": "13"}, config{}, `store.number: "13" is no number`},
		{map[string]string{"number": "1.5"}, config{}, `store.number: "1.5" is no number`},
		{map[string]string{"command": " "}, config{}, "store.command: it names no program"},
		{map[string]string{"command": "'a"}, config{}, "store.command: the quote ' is not closed"},
		{map[string]string{"colour": "red"}, config{}, "store.colour: there is no such option; there are store.command, store.number"},
	} {
		var got config
		err := option.Apply(&got, "store", settings, tc.options)
		if tc.fails != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tc.fails) {
				t.Errorf("%v: error %v, want %s", tc.options, err, tc.fails)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%v: %v %s", tc.options, err, diff)
		}
	}
}
