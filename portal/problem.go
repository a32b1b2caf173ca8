package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// problem makes an error for the caller. It must not repeat what was sent.
func problem(status int, hint, format string, args ...any) *api.Problem {
	return &api.Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// wrongs is the error of a body or query with faults.
func wrongs(hint string, w ...api.Wrong) *api.Problem {
	p := problem(http.StatusUnprocessableEntity, hint, "%s: %s", w[0].Location, w[0].Message)
	if len(w) > 1 {
		p.Detail = fmt.Sprintf("%d things are wrong with the request", len(w))
	}
	p.Errors = w
	return p
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// Huma's own errors repeat the offending value, and for a missing field all
// that is around it, so that a password beside a slip comes back to the caller
// and goes to logs. The hook for it is global.
func init() {
	huma.DefaultArrayNullable = false // an empty list is []
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		p := problem(status, "see "+api.Prefix+"/openapi.json", "%s", message)
		for _, err := range errs {
			d, ok := err.(*huma.ErrorDetail)
			if !ok {
				continue // its text may quote what was sent
			}
			w := api.Wrong{Location: d.Location, Message: d.Message}
			if d.Location == "body" && d.Value != nil {
				if _, quoted := d.Value.(string); quoted {
					w.Message = "is not the JSON that is wanted here"
				}
			}
			p.Errors = append(p.Errors, w)
		}
		if len(p.Errors) > 0 {
			p.Detail = wrongs("", p.Errors...).Detail
		}
		return p
	}
}

// fail turns the error of an operation into what the caller gets to see. What
// nobody foresaw is for the log only.
func (p *Portal) fail(op huma.Operation, err error) *api.Problem {
	if known, ok := errors.AsType[*api.Problem](err); ok {
		return known
	}
	if errors.Is(err, store.ErrNotFound) {
		return problem(http.StatusNotFound, "", "there is no such thing")
	}
	if e, ok := errors.AsType[*access.Error](err); ok && e.Kind == access.Invalid {
		return problem(http.StatusUnprocessableEntity, e.Remedy, "%s", e.Text)
	}
	if errors.Is(err, context.Canceled) {
		return problem(http.StatusServiceUnavailable, "", "the caller did not wait for the answer")
	}
	if unreachable(err) {
		return problem(http.StatusServiceUnavailable, "try again once Temporal is back", "Temporal does not answer")
	}
	p.opts.Log.Error("internal error", "operation", op.OperationID, "error", err)
	return problem(http.StatusInternalServerError, "the portal's log says more", "internal error")
}

// unreachable reports whether Temporal did not answer, as opposed to saying no.
func unreachable(err error) bool {
	if _, ok := errors.AsType[*serviceerror.Unavailable](err); ok {
		return true
	}
	return late(err)
}

// late reports whether no answer came in time.
func late(err error) bool {
	if _, ok := errors.AsType[*serviceerror.DeadlineExceeded](err); ok {
		return true
	}
	if _, ok := errors.AsType[*client.WorkflowUpdateServiceTimeoutOrCanceledError](err); ok {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// said is what a workflow or an activity said about its failure.
func said(err error) (kind, text string) {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return e.Type(), e.Message()
	}
	return "", ""
}

// timedOut reports whether a workflow failed because nobody took its work.
func timedOut(err error) bool {
	_, ok := errors.AsType[*temporal.TimeoutError](err)
	return ok
}
