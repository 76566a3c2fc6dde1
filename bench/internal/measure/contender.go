package measure

// Contender names one of those that are compared.
type Contender string

// The contenders.
const (
	Loop     Contender = "loop"
	Session  Contender = "session"
	Pipeline Contender = "pipeline"
	Reaction Contender = "reaction"
	Bounded  Contender = "bounded"
	Step     Contender = "step"
	Saga     Contender = "saga"
)

// Contenders are all, in the order in which they are shown.
func Contenders() []Contender {
	return []Contender{Loop, Session, Pipeline, Reaction, Bounded, Step, Saga}
}

// Title says what it is.
func (c Contender) Title() string {
	switch c {
	case Loop:
		return "at-least-once loop"
	case Session:
		return "GroupTransactSession"
	case Pipeline:
		return "raw pipeline"
	case Reaction:
		return "choreo Reaction"
	case Bounded:
		return "choreo Reaction, bounded"
	case Step:
		return "choreo Step"
	case Saga:
		return "choreo saga of 3"
	}
	return string(c)
}

// Sized reports whether the contender differs from every other only where the
// size of commits is bounded.
func (c Contender) Sized() bool { return c == Bounded }

// exactlyOnce reports whether a doubled order is a fault. The loop may double
// some when it is interrupted.
func (c Contender) exactlyOnce() bool { return c != Loop }

// flows is to how many flows n orders belong. A saga is one flow for each
// order, a step hears four events of each, the others have 1,000 keys.
func (c Contender) flows(n int64) int {
	switch c {
	case Saga:
		return int(n)
	case Step:
		return int(max(n/4, 1))
	default:
		return 1000
	}
}

// inFlight is how many orders may be under way where so many are to be in each
// commit (0: as many as there are, and no bound).
//
// The loop, the session and the raw pipeline take exactly as many. choreo sizes
// its commits by what is under way, for which alone it has a setting. With as
// many as all lanes hold together a commit may take more than it is asked for,
// or less, so what it took is measured too; Bounded has so few under way that no
// commit can take more.
func (c Contender) inFlight(perCommit int) int {
	switch c {
	case Loop, Session:
		return 0
	case Bounded:
		return perCommit
	case Pipeline:
		return 2 * lanes * perCommit // those in the lanes, and the next
	default:
		return lanes * perCommit
	}
}
