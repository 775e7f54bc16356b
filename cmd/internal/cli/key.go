package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// keyOptions are the flags of key add and key passwd.
type keyOptions struct {
	passwordFile string
	noPassword   bool
	user, host   string
}

func (o *keyOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.passwordFile, "new-password-file", "", "read the new password from a `file`")
	f.BoolVar(&o.noPassword, "new-insecure-no-password", false, "let the new key have an empty password; the repository is then open to everybody who can read it")
	f.StringVar(&o.user, "user", "", "note this `name` as that of the user in the new key (default: yours)")
	f.StringVar(&o.host, "host", "", "note this `name` as that of the host in the new key ($VITRINE_HOST; default: that of this machine)")
}

func newKey(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "List, add and remove the passwords of a repository",
		Long: `A repository has one or more keys, each with a password of its own. Each opens all of the
repository, and none is more than the others.`,
		Example: `  vitrine key list
  vitrine key add --new-password-file second
  vitrine key passwd
  vitrine key remove eb78040b`,
		Args: func(cmd *cobra.Command, words []string) error {
			if len(words) == 0 {
				return nil
			}
			return usagef("vitrine key", "unknown command %q%s", words[0], didYouMean("", words[0], []string{"list", "add", "remove", "passwd"}))
		},
		RunE: func(*cobra.Command, []string) error {
			return usagef("vitrine key", "say what to do: list, add, remove or passwd")
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the keys", Example: "  vitrine key list", Args: noArgs,
		Long: "Lists the keys of the repository, and marks the one that your password has opened by a star.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runKeyList(cmd.Context()) },
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Remove a key", Example: "  vitrine key remove eb78040b",
		Long: "Removes a key, so that its password opens the repository no longer. The key in use cannot be removed.",
		Args: func(_ *cobra.Command, words []string) error {
			if len(words) != 1 {
				return usagef("vitrine key remove", "give the ID of one key; `vitrine key list` shows them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, words []string) error { return a.runKeyRemove(cmd.Context(), words[0]) },
	}
	var adding, changing keyOptions
	add := &cobra.Command{
		Use: "add", Short: "Add a key with a password of its own", Args: noArgs,
		Example: "  vitrine key add --new-password-file second --user alice --host laptop",
		Long:    "Adds a key. The old passwords open the repository as before.",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runKeyAdd(cmd.Context(), adding, false) },
	}
	passwd := &cobra.Command{
		Use: "passwd", Short: "Change the password", Args: noArgs,
		Example: "  vitrine key passwd --new-password-file better",
		Long: `Adds a key with a new password, and when that is safe removes the key in use. Whoever has a
copy of the old key and its password can still read the repository, for the data is not encrypted anew.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runKeyAdd(cmd.Context(), changing, true) },
	}
	adding.register(add.Flags())
	changing.register(passwd.Flags())
	cmd.AddCommand(list, add, remove, passwd)
	return cmd
}

// keySummary is the message of the commands that change keys under --json; restic has none.
type keySummary struct {
	MessageType string `json:"message_type"` // summary
	New         string `json:"new_key_id,omitempty"`
	Removed     string `json:"removed_key_id,omitempty"`
}

// keyJSON is one key of `key list --json`.
type keyJSON struct {
	Current  bool    `json:"current"`
	ID       blob.ID `json:"id"` // whole; restic 0.14 cuts it
	UserName string  `json:"userName"`
	HostName string  `json:"hostName"`
	Created  string  `json:"created"` // local time
}

func (a *app) runKeyList(ctx context.Context) error {
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	keys, damaged := r.Keys(ctx)
	if len(keys) == 0 && damaged != nil {
		return damaged
	}
	table := progress.NewTable(" ID", "User", "Host", "Created")
	list := make([]keyJSON, 0, len(keys))
	for _, k := range keys {
		created := k.Created.Local().Format(timeFormat)
		list = append(list, keyJSON{k.Current, k.ID, k.Username, k.Hostname, created})
		mark := " "
		if k.Current {
			mark = "*"
		}
		table.Row(mark+k.ID.Short(), k.Username, k.Hostname, created)
	}
	if a.print.JSONMode() {
		a.print.Message(list)
		return damaged
	}
	return errors.Join(table.Write(a.stdout), damaged)
}

// runKeyAdd adds a key and, to change the password, removes the one in use.
func (a *app) runKeyAdd(ctx context.Context, o keyOptions, change bool) error {
	if o.noPassword && o.passwordFile != "" {
		return usagef("vitrine key", "--new-password-file and --new-insecure-no-password exclude each other")
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	ko := repo.KeyOptions{Username: o.user, Hostname: o.host}
	if u, err := user.Current(); err == nil && ko.Username == "" {
		ko.Username = u.Username
	}
	if ko.Hostname == "" {
		ko.Hostname = hostname()
	}
	a.renewed.passwordFile = o.passwordFile
	// Asked before the lock is taken, for people take their time.
	if ko.Password, err = a.password(ctx, &a.renewed, "new key", true, o.noPassword); errors.Is(err, errEmptyPassword) {
		return errors.New("the new password is empty; if that is meant, say so with --new-insecure-no-password")
	} else if err != nil {
		return fmt.Errorf("new password: %w", err)
	}
	return a.withLock(ctx, r, change, func(ctx context.Context) error {
		store := r.AddKey
		if change {
			store = r.ChangePassword
		}
		id, err := store(ctx, ko)
		if err != nil {
			return err
		}
		if a.print.JSONMode() {
			a.print.Message(keySummary{MessageType: "summary", New: id.String()})
		}
		a.print.Line("saved new key with ID %v", id)
		return nil
	})
}

func (a *app) runKeyRemove(ctx context.Context, prefix string) error {
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.withLock(ctx, r, true, func(ctx context.Context) error {
		var id blob.ID
		if id, err = r.Resolve(ctx, backend.Key, prefix); err != nil {
			return err
		}
		if err := r.RemoveKey(ctx, id); err != nil {
			return err
		}
		if a.print.JSONMode() {
			a.print.Message(keySummary{MessageType: "summary", Removed: id.String()})
		}
		a.print.Line("removed key %v", id)
		return nil
	})
}
