package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// elsewhere has a process of its own do the work of order, which is what became of it afterwards. The process is this
// program with an argument, and hands the order to serve.
func elsewhere(ctx context.Context, argument string, order any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, argument)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &stderr
	done, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", argument, err, clip(stderr.String()))
	}
	return json.Unmarshal(done, order)
}

// serve is the other end of elsewhere.
func serve[T any](do func(*T) error) error {
	var order T
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return err
	}
	if err := do(&order); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(&order)
}
