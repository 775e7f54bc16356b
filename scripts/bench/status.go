package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// status is what the bench wants of vitrine's .vitrine/status.
type status struct {
	Memory struct {
		BudgetBytes int64 `json:"budget_bytes"`
	} `json:"memory"`
	Backend *struct {
		Requests  int64 `json:"requests"`
		BytesRead int64 `json:"bytes_read"`
	} `json:"backend"`
}

// status asks a mount of vitrine.
func (m *mounted) status() (status, error) {
	var s status
	content, err := os.ReadFile(m.dir + "/.vitrine/status")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("%s/.vitrine/status: %w", m.dir, err)
	}
	return s, nil
}

// learnBudget remembers the memory that a mount may use.
func (b *bench) learnBudget(m *mounted) {
	if m.program.name != "vitrine" || b.budget > 0 {
		return
	}
	s, err := m.status()
	if err != nil {
		b.report.note("The budget of memory is unknown: %v.", err)
		return
	}
	b.budget = s.Memory.BudgetBytes
}
