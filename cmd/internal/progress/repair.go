package progress

import "vitrine/repo/repair"

// repairSteps are the parts of repair index and repair packs.
var repairSteps = map[repair.Phase]Step{
	repair.ReadIndex:   {"load indexes", "index files"},
	repair.ReadHeaders: {"read packs that no index describes", "packs"},
	repair.WriteIndex:  {"write new index", "packs"},
	repair.RemoveIndex: {"remove old index files", "files"},
	repair.Salvage:     {"read damaged packs", "packs"},
	repair.RemovePacks: {"remove damaged packs", "packs"},
	repair.ReadTrees:   {"load trees", "trees"},
}

// Repair shows a repair; it is a repair.Reporter and a View.
type Repair struct{ *Steps }

// NewRepair returns the display of a repair.
func NewRepair(p *Printer) *Repair { return &Repair{NewSteps(p)} }

// Progress implements repair.Reporter.
func (s *Repair) Progress(phase repair.Phase, done, total int64) {
	s.Show(repairSteps[phase], done, total)
}

// Problem implements repair.Reporter.
func (s *Repair) Problem(err error) { s.p.Warn("%s%v", Warning, err) }
