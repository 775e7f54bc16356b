package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// verified counts what restic has said of vitrine's repositories.
type verified struct {
	checked, sound int // repositories whose data restic has read, and those in which it found nothing wrong
	compared, same int // directories that both have backed up into one repository, and those with the same root tree
}

// note is how the report says it.
func (v verified) note() string {
	errorsIn := "all without errors"
	if v.sound < v.checked {
		errorsIn = fmt.Sprintf("%d WITH ERRORS", v.checked-v.sound)
	}
	return fmt.Sprintf("restic check --read-data: %d repositories that vitrine has written, %s; root tree ids equal: %d of %d.", v.checked, errorsIn, v.same, v.compared)
}

// verify has restic read all of the repository that p has written, and then back the same directory up into it: the root
// tree must be the one that p has stored. Its snapshot goes away again. No cache takes part.
func (b *bench) verify(ctx context.Context, p program, dir string) error {
	peer := b.restic()
	b.verified.checked++
	if _, err := b.run(ctx, b.command(peer, p.repo, "--no-cache", "check", "--read-data")); err != nil {
		return fmt.Errorf("what vitrine has written: %w", err)
	}
	b.verified.sound++
	b.verified.compared++
	if err := b.compareRoots(ctx, p, peer, dir); err != nil {
		return err
	}
	b.verified.same++
	return nil
}

// rootTries is how often both back up before different trees count. The tree has the directories above the one that is
// backed up, and whoever makes a file there in between changes their times.
const rootTries = 3

// compareRoots has both programs read all files again, but for the first time, when p's last snapshot counts.
func (b *bench) compareRoots(ctx context.Context, p, peer program, dir string) error {
	var ours, theirs listed
	for try := range rootTries {
		var err error
		if try == 0 {
			ours, err = b.newest(ctx, p.repo)
		} else {
			ours, err = b.backUpAgain(ctx, p, p.repo, dir)
		}
		if err != nil {
			return err
		}
		if theirs, err = b.backUpAgain(ctx, peer, p.repo, dir); err != nil {
			return err
		}
		if ours.ID == theirs.ID {
			return errors.New("restic has made no snapshot")
		}
		if _, err := b.run(ctx, b.command(peer, p.repo, "--no-cache", "forget", theirs.ID)); err != nil {
			return err
		}
		if ours.Tree == theirs.Tree {
			return nil
		}
	}
	return fmt.Errorf("the root tree of %s is %s by vitrine and %s by restic", dir, ours.Tree, theirs.Tree)
}

// backUpAgain trusts no parent, and returns the snapshot that was made.
func (b *bench) backUpAgain(ctx context.Context, p program, repo, dir string) (listed, error) {
	if _, err := b.run(ctx, b.command(p, repo, "--no-cache", "backup", "--force", dir)); err != nil {
		return listed{}, err
	}
	return b.newest(ctx, repo)
}

// listed is a snapshot in restic's list.
type listed struct {
	ID   string    `json:"id"`
	Tree string    `json:"tree"`
	Time time.Time `json:"time"`
}

// newest is the last snapshot of a repository, as restic reads it.
func (b *bench) newest(ctx context.Context, repo string) (listed, error) {
	text, err := b.output(ctx, b.command(b.restic(), repo, "--no-cache", "snapshots", "--json"))
	if err != nil {
		return listed{}, err
	}
	return newestOf(text)
}

func newestOf(text []byte) (last listed, err error) {
	var all []listed
	if err := json.Unmarshal(text, &all); err != nil {
		return last, fmt.Errorf("restic snapshots: %w", err)
	}
	for _, s := range all {
		if s.Time.After(last.Time) {
			last = s
		}
	}
	if last.ID == "" || last.Tree == "" {
		return last, errors.New("restic snapshots: there is none")
	}
	return last, nil
}
