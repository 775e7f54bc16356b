package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
)

// Groups of commands in the help.
const (
	groupWork    = "work"
	groupCare    = "care"
	groupInside  = "inside"
	groupProgram = "program"
)

const rootLong = `vitrine keeps encrypted, deduplicated snapshots in restic-format repositories and
shows every one of them as an ordinary directory tree.

Each flag that can be set by an environment variable names it. $RESTIC_… is read
where $VITRINE_… is not set, and a flag wins over both. $VITRINE_PASSWORD,
$VITRINE_FROM_PASSWORD, $VITRINE_PROGRESS_FPS, $VITRINE_FEATURES,
$VITRINE_REST_USERNAME and $VITRINE_REST_PASSWORD have no flag.
$VITRINE_PROGRESS_FPS is how many times a second progress is told, such as 0.1; 0 has none
told in lines, where output is neither a terminal nor JSON.

Exit codes: 0 success, 1 error, 3 a backup left out files it could not read, or
a forget snapshots it could not remove,
10 no repository there, 11 it is locked, 12 wrong password, 130 interrupted.`

const rootExample = `  export VITRINE_REPOSITORY=/srv/backup VITRINE_PASSWORD_FILE=~/.vitrine-password
  vitrine init
  vitrine backup ~/work
  vitrine snapshots
  vitrine mount /mnt/backup`

// newRoot builds the tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:     "vitrine",
		Short:   "Back up to restic-format repositories, and look at them as directories",
		Long:    rootLong,
		Example: rootExample,
		Version: Version,
		Args:    func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.setup(cmd) },
	}
	root.SetVersionTemplate("vitrine {{.Version}}\n")
	root.AddGroup(
		&cobra.Group{ID: groupWork, Title: "Backing up and getting back:"},
		&cobra.Group{ID: groupCare, Title: "Looking after a repository:"},
		&cobra.Group{ID: groupInside, Title: "Looking inside:"},
		&cobra.Group{ID: groupProgram, Title: "The program:"},
	)
	a.global.register(root.PersistentFlags())
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupWork, newInit(a), newBackup(a), newSnapshots(a), newLs(a), newMount(a), newRestore(a), newDump(a), newCopy(a))
	add(groupCare, newForget(a), newPrune(a), newTag(a), newRewrite(a), newKey(a), newCheck(a), newRepair(a), newRebuildIndex(a), newRecover(a), newMigrate(a), newUnlock(a))
	add(groupInside, newFind(a), newDiff(a), newStats(a), newCat(a), newList(a))
	add(groupProgram, newCache(a), newVersion(a), newOptions(a), newFeatures(a), newGenerate(a))
	root.SetFlagErrorFunc(flagError)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout) // the commands for completions remember it
	root.SetErr(a.stderr)
	root.SetHelpCommandGroupID(groupProgram)
	root.SetCompletionCommandGroupID(groupProgram)
	makeStrict(root)
	return root
}

// flagError adds to an error of the flag parser the nearest flag that exists. A flag of a command
// that does not exist is not what is wrong.
func flagError(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); !cmd.HasParent() && len(words) > 0 {
		return unknownCommand(cmd, words)
	}
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		return usagef(cmd.CommandPath(), "%w", badValue("--"+bad.GetFlag().Name, err))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usagef(cmd.CommandPath(), "%w", err)
	}
	name := unknown.GetSpecifiedName()
	if letters, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "="); len(letters) > 1 {
		name = letters // -tag, which is many flags of one letter, may be meant as --tag
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return usagef(cmd.CommandPath(), "%w%s", err, didYouMean("--", name, names))
}

// didYouMean returns ", did you mean …?" with the nearest of the names, or nothing when none is near.
func didYouMean(prefix, word string, names []string) string {
	best, least := "", max(1, len(word)/3)
	for _, name := range names {
		d := distance(word, name)
		if strings.HasPrefix(name, word) {
			d = min(d, 1)
		}
		if d <= least && (best == "" || d < least) {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", prefix+best)
}

// distance counts the letters to change, add, drop or swap with the next to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j] is the distance of a[:i] and b[:j]
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j-1], rows[i-1][j], rows[i][j-1])
				if i > 1 && j > 1 && a[i-2] == b[j-1] && a[i-1] == b[j-2] {
					rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
				}
			}
		}
	}
	return rows[len(a)][len(b)]
}

// setup reads the environment and checks the global flags before any command runs.
func (a *app) setup(cmd *cobra.Command) error {
	if err := a.applyEnv(cmd.Flags()); err != nil {
		return err
	}
	a.print = progress.New(progress.Options{
		Stdout: a.stdout, Stderr: a.stderr,
		Terminal:      a.canDraw(),
		ErrorTerminal: isTerminal(a.stderr),
		JSON:          a.global.json, Quiet: a.global.quiet, Verbose: a.global.verbose, FPS: a.global.fps, NoLines: a.global.noLines,
	})
	for _, warning := range checkFeatures(a.features) {
		a.print.Warn("%s%s", progress.Warning, warning)
	}
	return a.global.check(a.said)
}

// hostname returns the name of this machine, or "" when the system does not tell it.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
