package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// ErrMoved is in the chain of an error about a configuration that was compared
// with one that is not in force, or no longer: compare it anew.
var ErrMoved = errors.New("the configuration in force has changed")

// ProposalState says how a proposal stands.
type ProposalState string

const (
	ProposalOpen      ProposalState = "open"
	ProposalApproved  ProposalState = "approved"
	ProposalRejected  ProposalState = "rejected"
	ProposalWithdrawn ProposalState = "withdrawn"
	ProposalStale     ProposalState = "stale" // another configuration came into force
)

// Proposal is a file that is to change a configuration that wants two persons
// for that.
type Proposal struct {
	ID    string        `json:"id"`
	State ProposalState `json:"-"`
	At    time.Time     `json:"at"`
	By    string        `json:"by"` // person id, or lapse
	// Sponsor is the id of the person who stands for what lapse proposed.
	Sponsor string `json:"sponsor,omitempty"`
	File    string `json:"file"` // its name
	Source  []byte `json:"-"`    // as it was applied; Proposals leaves it out
	// Base is the version that it was compared with, Changes what would change.
	Base    int64         `json:"base"`
	Changes []config.Line `json:"changes"`

	DecidedBy string    `json:"decided_by,omitempty"` // person id
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Version   int64     `json:"version,omitempty"` // that it became
}

// Propose stores an open proposal, with its event. It is refused with ErrMoved
// where the configuration in force is not the one that it was compared with.
// What the same person proposed already, and is open, is returned as it stands.
func (s *Store) Propose(ctx context.Context, p Proposal, event access.Event) (out Proposal, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		version, err := inForce(ctx, tx)
		if err != nil {
			return err
		}
		if version != p.Base {
			return fmt.Errorf("proposal: %w", ErrMoved)
		}
		same, err := all(ctx, tx, scanProposal, selectProposal+` where state = 'open' and source = $1`, string(p.Source))
		if err != nil {
			return err
		}
		for _, out = range same {
			if out.By == p.By && slices.Equal(out.Changes, p.Changes) {
				return nil
			}
		}
		out, out.State = p, ProposalOpen
		_, err = tx.ExecContext(ctx, `insert into proposals (id, created_at, state, proposal, source) values ($1, $2, $3, $4, $5)`,
			out.ID, asTime{&out.At}, string(out.State), asJSON{out}, string(out.Source))
		if err != nil {
			return err
		}
		_, err = s.appendEvent(ctx, tx, event)
		return err
	})
	return out, err
}

// DecideProposal changes a proposal. The function gets it as it stands, and the
// version of the configuration in force; where it fails nothing is changed. It
// returns the events that say so, and the configuration that comes into force
// with it: nil is none. All of it is one transaction.
func (s *Store) DecideProposal(ctx context.Context, id string, decide func(p *Proposal, version int64) (*SaveConfig, []access.Event, error)) (p Proposal, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		version, err := inForce(ctx, tx)
		if err != nil {
			return err
		}
		if p, err = proposal(ctx, tx, id); err != nil {
			return err
		}
		save, events, err := decide(&p, version)
		if err != nil {
			return err
		}
		for _, event := range events {
			if _, err := s.appendEvent(ctx, tx, event); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `update proposals set state = $1 where id = $2`, string(p.State), id); err != nil {
			return err
		}
		if save != nil {
			if p.Version, err = s.saveConfig(ctx, tx, *save, true); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `update proposals set proposal = $1 where id = $2`, asJSON{p}, id)
		return err
	})
	return p, err
}

// outdate ends the proposals that were compared with the configuration before.
func (s *Store) outdate(ctx context.Context, tx *sql.Tx, version int64, by string) error {
	ids, err := all(ctx, tx, func(row scanner) (id string, err error) {
		return id, row.Scan(&id)
	}, `update proposals set state = 'stale' where state = 'open' returning id`)
	for _, id := range ids {
		if err == nil {
			_, err = s.appendEvent(ctx, tx, access.Event{Key: "proposal/" + id + "/stale", Kind: "config.stale", Actor: by,
				Text: fmt.Sprintf("the proposal %s is stale: version %d came into force", id, version)})
		}
	}
	return err
}

// Proposal reads a proposal.
func (s *Store) Proposal(ctx context.Context, id string) (Proposal, error) {
	return proposal(ctx, s.readers, id)
}

func proposal(ctx context.Context, q querier, id string) (Proposal, error) {
	return one(ctx, q, "proposal "+id, scanProposal, selectProposal+` where id = $1`, id)
}

// Proposals lists the newest proposals, the newest first, without their source.
func (s *Store) Proposals(ctx context.Context, limit int) ([]Proposal, error) {
	return all(ctx, s.readers, scanProposal, `select state, proposal, '' from proposals order by created_at desc, id desc limit $1`, pageSize(limit))
}

const selectProposal = `select state, proposal, source from proposals`

func scanProposal(row scanner) (p Proposal, err error) {
	var source string
	err = row.Scan(&p.State, asJSON{&p}, &source)
	p.Source = []byte(source)
	return p, err
}
