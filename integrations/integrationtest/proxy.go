package integrationtest

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Proxy stands between an integration and its target and spoils their talk. It
// knows no protocol: it counts turns, a turn being all that the client sends
// until the target answers, over all connections in the order in which they
// come.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	turns int
	// before and after are the turns at which to cut; 0 is never.
	before, after int
	broken        bool // nobody gets through
	mute          bool // everybody may talk, nobody is answered
	delay         time.Duration
	hold          *hold
	links         map[*link]bool
	records       bool
	recorded      []*link
}

// hold keeps back answers from a moment on.
type hold struct {
	reached  func() bool
	begun    bool
	released chan struct{}
}

// link is one connection through the proxy.
type link struct {
	client, target net.Conn
	talking        bool // the client was the last to send
	doomed         bool // the answer to this turn is lost
	said           []byte
}

// NewProxy starts a proxy to a target, HOST:PORT, on the loopback address.
func NewProxy(t T, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	p := &Proxy{listener: l, target: target, links: map[*link]bool{}}
	go p.serve()
	t.Cleanup(func() {
		l.Close()
		p.Heal()
		p.Break()
	})
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Turns is the number of turns since the last Heal.
func (p *Proxy) Turns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns
}

// Heal lets everything through again and counts from zero.
func (p *Proxy) Heal() {
	p.set(func() {
		p.turns, p.before, p.after, p.broken, p.mute, p.delay = 0, 0, 0, false, false, 0
		if p.hold != nil {
			close(p.hold.released)
			p.hold = nil
		}
	})
}

// CutBefore breaks everything when the nth turn begins, before the target
// hears of it.
func (p *Proxy) CutBefore(n int) { p.set(func() { p.before = n }) }

// CutAfter breaks everything when the target answers the nth turn: it has done
// what was asked, and the answer is lost.
func (p *Proxy) CutAfter(n int) { p.set(func() { p.after = n }) }

// Record keeps all that clients say on the connections that begin from now on.
func (p *Proxy) Record() { p.set(func() { p.records = true }) }

// Said is what was kept, one for each connection.
func (p *Proxy) Said() (all [][]byte) {
	p.set(func() {
		for _, l := range p.recorded {
			all = append(all, slices.Clone(l.said))
		}
	})
	return all
}

// Mute takes everything and answers nothing.
func (p *Proxy) Mute() { p.set(func() { p.mute = true }) }

// Delay holds back every answer for a while.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Hold asks before each answer whether a moment is reached, and from then on
// keeps back every answer for which it is, until Heal: the target has done what
// was asked, and the client waits.
func (p *Proxy) Hold(reached func() bool) {
	p.set(func() { p.hold = &hold{reached: reached, released: make(chan struct{})} })
}

// Holding reports whether an answer is kept back.
func (p *Proxy) Holding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold != nil && p.hold.begun
}

// Break closes every connection and refuses new ones.
func (p *Proxy) Break() { p.set(p.cut) }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// cut is Break with the lock held.
func (p *Proxy) cut() {
	p.broken = true
	for l := range p.links {
		l.client.Close()
		l.target.Close()
		delete(p.links, l)
	}
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.connect(client)
	}
}

func (p *Proxy) connect(client net.Conn) {
	target, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client: client, target: target}
	p.mu.Lock()
	p.links[l] = true
	recorded := p.records
	if recorded {
		p.recorded = append(p.recorded, l)
	}
	if p.broken {
		p.cut()
	}
	p.mu.Unlock()
	go p.pump(l, client, target, func(l *link, said []byte) bool {
		if recorded {
			p.set(func() { l.said = append(l.said, said...) })
		}
		return p.heard(l)
	})
	p.pump(l, target, client, func(l *link, _ []byte) bool { return p.answered(l) })
}

// pump moves bytes one way until an end closes, which closes both.
func (p *Proxy) pump(l *link, from, to net.Conn, pass func(l *link, said []byte) bool) {
	defer func() {
		l.client.Close()
		l.target.Close()
		p.set(func() { delete(p.links, l) })
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && pass(l, buf[:n]) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// heard counts what the client sends, and says whether it goes on.
func (p *Proxy) heard(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.talking {
		l.talking = true
		p.turns++
		switch p.turns {
		case p.before:
			p.cut()
			return false
		case p.after:
			l.doomed = true
		}
	}
	return !p.broken
}

// answered says whether an answer of the target goes on.
func (p *Proxy) answered(l *link) bool {
	p.keep()
	p.mu.Lock()
	delay := p.delay
	l.talking = false
	if l.doomed {
		p.cut()
	}
	pass := !p.broken && !p.mute
	p.mu.Unlock()
	time.Sleep(delay)
	return pass
}

// keep returns when an answer need not be kept back any more.
func (p *Proxy) keep() {
	p.mu.Lock()
	h := p.hold
	p.mu.Unlock()
	if h == nil || !h.reached() {
		return
	}
	p.set(func() { h.begun = true })
	<-h.released
}
