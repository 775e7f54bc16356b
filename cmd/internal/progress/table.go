package progress

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table lays out rows of cells in left-aligned columns between two rules. A cell may have
// several lines.
type Table struct {
	headers []string
	widths  []int // in runes
	rows    [][][]string
	footer  []string

	// Spaced puts an empty line between rows, for tables whose cells have several lines.
	Spaced bool
}

// NewTable returns a table with the given column heads.
func NewTable(headers ...string) *Table {
	t := &Table{headers: headers, widths: make([]int, len(headers))}
	for i, h := range headers {
		t.widths[i] = utf8.RuneCountInString(h)
	}
	return t
}

// MinWidth makes a column at least n runes wide.
func (t *Table) MinWidth(column, n int) { t.widths[column] = max(t.widths[column], n) }

// Row adds a row; missing cells are empty.
func (t *Table) Row(cells ...string) {
	row := make([][]string, len(t.headers))
	for i, cell := range cells {
		row[i] = strings.Split(cell, "\n")
		for _, line := range row[i] {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(line))
		}
	}
	t.rows = append(t.rows, row)
}

// Footer adds a line below the table.
func (t *Table) Footer(line string) { t.footer = append(t.footer, line) }

// Write prints the table. Lines carry no trailing spaces.
func (t *Table) Write(w io.Writer) error {
	var b strings.Builder
	t.line(&b, t.headers)
	rule := 2 * (len(t.widths) - 1)
	for _, width := range t.widths {
		rule += width
	}
	b.WriteString(strings.Repeat("-", rule) + "\n")
	for i, row := range t.rows {
		if t.Spaced && i > 0 {
			b.WriteByte('\n')
		}
		t.row(&b, row)
	}
	b.WriteString(strings.Repeat("-", rule) + "\n")
	for _, line := range t.footer {
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) row(b *strings.Builder, row [][]string) {
	lines := 1
	for _, cell := range row {
		lines = max(lines, len(cell))
	}
	for n := range lines {
		cells := make([]string, len(row))
		for i, cell := range row {
			if n < len(cell) {
				cells[i] = cell[n]
			}
		}
		t.line(b, cells)
	}
}

func (t *Table) line(b *strings.Builder, cells []string) {
	var l strings.Builder
	for i, cell := range cells {
		l.WriteString(cell)
		l.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
	}
	b.WriteString(strings.TrimRight(l.String(), " "))
	b.WriteByte('\n')
}
