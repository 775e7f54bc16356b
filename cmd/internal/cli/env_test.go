package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
)

// parse runs the parser and setup for a command line, without the command itself.
func parse(t *testing.T, env []string, args ...string) (*app, error) {
	t.Helper()
	a := &app{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, env: environment(env)}
	root := newRoot(a)
	for _, c := range root.Commands() {
		c.RunE = func(*cobra.Command, []string) error { return nil }
	}
	root.SetArgs(args)
	return a, root.ExecuteContext(context.Background())
}

func TestEnvironmentPrecedence(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want globals
	}{
		{"restic's names", []string{"RESTIC_REPOSITORY=r", "RESTIC_PASSWORD=p", "RESTIC_KEY_HINT=k", "RESTIC_CACHE_DIR=c",
			"RESTIC_COMPRESSION=max", "RESTIC_PACK_SIZE=64", "RESTIC_PROGRESS_FPS=0.5"}, nil,
			globals{access: access{location: "r", password: "p", keyHint: "k"}, cacheDir: "c", compression: "max", packMiB: 64, fps: 0.5}},
		{"no progress in lines", []string{"RESTIC_PROGRESS_FPS=0"}, nil, globals{noLines: true}},
		{"ours win", []string{"RESTIC_REPOSITORY=r", "VITRINE_REPOSITORY=v"}, nil, globals{access: access{location: "v"}}},
		{"ours win over another answer to the same question", []string{"RESTIC_REPOSITORY=r", "VITRINE_REPOSITORY_FILE=v",
			"RESTIC_PASSWORD_COMMAND=c", "VITRINE_PASSWORD=p"}, nil,
			globals{access: access{locationFile: "v", password: "p"}}},
		{"flags win", []string{"VITRINE_REPOSITORY=v", "VITRINE_PASSWORD=p", "VITRINE_COMPRESSION=max"},
			[]string{"--repository-file", "f", "--password-file", "pf", "--compression", "off"},
			globals{access: access{locationFile: "f", passwordFile: "pf"}, compression: "off"}},
		{"empty is not set", []string{"VITRINE_REPOSITORY=", "RESTIC_REPOSITORY=r"}, nil, globals{access: access{location: "r"}}},
		{"a list", []string{"RESTIC_CACERT=a.pem,b.pem"}, nil, globals{caCerts: []string{"a.pem", "b.pem"}}},
		{"a flag that comes twice", []string{"VITRINE_CACERT=c.pem"}, []string{"--cacert", "a.pem", "--cacert=b.pem"}, globals{caCerts: []string{"a.pem", "b.pem"}}},
		{"the last of equal names", []string{"VITRINE_REPOSITORY=a", "VITRINE_REPOSITORY=b"}, nil, globals{access: access{location: "b"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := parse(t, c.env, append(c.args, "snapshots")...)
			if err != nil {
				t.Fatal(err)
			}
			if c.want.compression == "" {
				c.want.compression = "auto"
			}
			c.want.stuckAfter = 5 * time.Minute
			if diff := cmp.Diff(c.want, a.global, cmp.AllowUnexported(globals{}, access{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvironmentOfCommands(t *testing.T) {
	a, err := parse(t, []string{"RESTIC_FROM_REPOSITORY=r", "VITRINE_FROM_PASSWORD=p", "RESTIC_FROM_KEY_HINT=k"}, "init")
	if err != nil {
		t.Fatal(err)
	}
	want := access{location: "r", password: "p", keyHint: "k"}
	if diff := cmp.Diff(want, a.from, cmp.AllowUnexported(access{})); diff != "" {
		t.Error(diff)
	}
}

func TestGlobalFlagErrors(t *testing.T) {
	for _, c := range []struct {
		env, args []string
		want      string
	}{
		{nil, []string{"snapshots", "-q", "-v"}, "--quiet and --verbose"},
		{nil, []string{"snapshots", "--compression", "lots"}, `--compression "lots": choose auto`},
		{[]string{"RESTIC_COMPRESSION=lots"}, []string{"snapshots"}, `$RESTIC_COMPRESSION "lots": choose auto`},
		{[]string{"RESTIC_PACK_SIZE=big"}, []string{"snapshots"}, `$RESTIC_PACK_SIZE "big": write a whole number, 0 or above`},
		{[]string{"RESTIC_PACK_SIZE=500"}, []string{"snapshots"}, `$RESTIC_PACK_SIZE 500: choose 4 to 128 (MiB)`},
		{nil, []string{"snapshots", "--pack-size", "-3"}, "--pack-size \"-3\": write a whole number, 0 or above; see `vitrine snapshots --help`"},
		{nil, []string{"snapshots", "--pack-size", "1"}, `--pack-size 1: choose 4 to 128 (MiB)`},
		{[]string{"VITRINE_PROGRESS_FPS=fast"}, []string{"snapshots"}, `$VITRINE_PROGRESS_FPS "fast": write a number of updates a second`},
		{[]string{"VITRINE_PROGRESS_FPS=-1"}, []string{"snapshots"}, `$VITRINE_PROGRESS_FPS "-1": write a number`},
		{[]string{"VITRINE_PROGRESS_FPS=NaN"}, []string{"snapshots"}, `$VITRINE_PROGRESS_FPS "NaN": write a number`},
		{[]string{"VITRINE_IO_TIMEOUT=5"}, []string{"mount", "m"}, `$VITRINE_IO_TIMEOUT "5": write a duration with its unit, such as 30s`},
		{[]string{"VITRINE_READ_CONCURRENCY=all"}, []string{"backup", "f"}, `$VITRINE_READ_CONCURRENCY "all": write a whole number`},
		{[]string{"RESTIC_CACHE_SIZE=x"}, []string{"snapshots"}, `$RESTIC_CACHE_SIZE: size "x": want a number`},
		{nil, []string{"snapshots", "--retry-lock", "5"}, "--retry-lock \"5\": write a duration with its unit, such as 30s, 5m or 2h; see `vitrine snapshots --help`"},
		{nil, []string{"snapshots", "--retry-lock=-5m"}, "--retry-lock is negative: "},
		{nil, []string{"snapshots", "--stuck-request-timeout=-5m"}, "--stuck-request-timeout is negative: "},
		{nil, []string{"snapshots", "--json=maybe"}, `--json "maybe": write true or false`},
		{nil, []string{"snapshots", "--verbose=much"}, `--verbose "much": write a whole number`},
		{nil, []string{"snapshots", "-v=much"}, `--verbose "much": write a whole number`},
		{nil, []string{"cache", "--max-age", "99999999999999999999"}, `--max-age "99999999999999999999": the number is too large`},
		{nil, []string{"snapshots", "-tag", "x"}, "unknown shorthand flag: 't' in -tag, did you mean \"--tag\"?"},
		{nil, []string{"snapshots", "-tagg=x"}, "did you mean \"--tag\"?"},
		{nil, []string{"unlock", "/srv/backup"}, "\"/srv/backup\": vitrine unlock takes no arguments; see `vitrine unlock --help`"},
		{nil, []string{"snapshots", "-X"}, "unknown shorthand flag: 'X' in -X; see"},
		{nil, []string{"snapshots", "-o", "novalue"}, "key=value"},
		{nil, []string{"snapshots", "-o", "swift.layout=default"}, "there are local.connections, local.layout, slow.bandwidth, slow.latency"},
		{nil, []string{"snapshots", "--limit-upload", "-5"}, "--limit-upload is negative: write a number of KiB/s"},
		{nil, []string{"snapshot"}, `unknown command "snapshot", did you mean "snapshots"?`},
		{nil, []string{"bakup"}, `did you mean "backup"?`},
		{nil, []string{"xyzzy"}, `unknown command "xyzzy"; see`},
		{nil, []string{"nope"}, `unknown command "nope"; see`},
		{nil, []string{"hlep"}, `did you mean "help"?`},
		{nil, []string{"resotre"}, `did you mean "restore"?`},
		{nil, []string{"snapshts"}, `did you mean "snapshots"?`},
		{nil, []string{"backup", "--exlude", "x"}, `did you mean "--exclude"?`},
		{nil, []string{"snapshots", "--bogus"}, "unknown flag: --bogus; see `vitrine snapshots --help`"},
		{nil, []string{"snapshots", "--latest", "many"}, "--latest \"many\": write a whole number; see `vitrine snapshots --help`"},
	} {
		_, err := parse(t, c.env, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: error %v, want %q", c.env, c.args, err, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"ab", "", 2}, {"", "abc", 3}, {"bakup", "backup", 1}, {"sitting", "kitten", 3}, {"ls", "list", 2}, {"hlep", "help", 1}, {"abcd", "badc", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
