package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// chromium is the browser of the tests, LAPSE_CHROMIUM or the one that is
// installed. Without one the test is skipped, and fails when CI=true.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("LAPSE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	localservertest.Require(t, errors.New("there is no Chromium: deploy/dev/chromium.sh installs one, LAPSE_CHROMIUM names one"))
	return ""
}

// browser is a window on a portal.
type browser struct {
	t        *testing.T
	ctx      context.Context
	base     string // of the portal
	pictures string // folder

	mu     sync.Mutex
	faults []string // what the browser complained of
}

// pageTime is how long a page may take, on a busy machine.
const pageTime = 20 * time.Second

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, for as long as ctx
		t.Fatal(err)
	}
	b := &browser{t: t, ctx: ctx, base: base, pictures: cmp.Or(os.Getenv("LAPSE_SCREENSHOTS"), t.ArtifactDir())}
	if err := os.MkdirAll(b.pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("the screenshots are in %s", b.pictures)
	b.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, cdplog.Enable, cdp.Empty{})
		return chromedp.Void{}, err
	}, chromedp.EmulateViewport(1280, 800))
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch event := event.(type) {
		case *cdplog.EventEntryAdded:
			// Statuses of 400 and more are errors too, and are often wanted.
			if event.Entry.Level == cdplog.EntryLevelError && event.Entry.Source != cdplog.EntrySourceNetwork {
				b.faults = append(b.faults, event.Entry.Text)
			}
		case *cdpruntime.EventExceptionThrown:
			b.faults = append(b.faults, event.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("the browser complains: %s", fault)
		}
	})
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTime)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v; the page:\n%s", err, b.text())
	}
}

// script runs an expression in the page.
func script[T any](b *browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, pageTime)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

func must[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := script[T](b, expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// text is what the page says.
func (b *browser) text() string {
	text, err := script[string](b, `location.pathname + "\n" + document.body.innerText`)
	if err != nil {
		return err.Error()
	}
	return text
}

// until waits until an expression is true.
func (b *browser) until(expression string) {
	b.t.Helper()
	end := time.Now().Add(pageTime)
	for {
		ok, err := script[bool](b, expression)
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("not so after %s: %s (%v); the page:\n%s", pageTime, expression, err, b.text())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// says waits until the page has these words.
func (b *browser) says(words string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.readyState == "complete" && document.body.innerText.includes(%s)`, quoted(words)))
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(selector, chromedp.NodeVisible))
}

// fill types into a field instead of what is in it.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	must[bool](b, fmt.Sprintf(`document.querySelector(%s).select(), true`, quoted(selector)))
	b.do(chromedp.SendKeys(selector, text))
}

// picture keeps the page in both schemes, on a desktop and on a phone, and
// judges it in each: nothing runs out of the side, and all text can be read.
func (b *browser) picture(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range []struct {
			name          string
			width, height int64
		}{{"phone", 390, 844}, {"desktop", 1280, 800}} {
			b.do(chromedp.EmulateViewport(screen.width, screen.height), prefers(scheme))
			var found struct {
				Wide  int64
				Texts int
				Faint []string
			}
			if err := json.Unmarshal([]byte(must[string](b, contrast)), &found); err != nil {
				b.t.Fatal(err)
			}
			at := fmt.Sprintf("%s, %s, %s", name, screen.name, scheme)
			if found.Wide > screen.width {
				b.t.Errorf("%s: the page is %d wide", at, found.Wide)
			}
			if found.Texts < 5 {
				b.t.Errorf("%s: only %d texts were judged", at, found.Texts)
			}
			for _, text := range found.Faint {
				b.t.Errorf("%s: too little contrast: %s", at, text)
			}
			ctx, cancel := context.WithTimeout(b.ctx, pageTime)
			png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			if err != nil {
				b.t.Fatal(err)
			}
			b.keep(fmt.Sprintf("%s-%s-%s.png", name, screen.name, scheme), png)
		}
	}
	b.do(prefers("light"))
}

// keep writes a picture.
func (b *browser) keep(name string, png []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.pictures, name), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return chromedp.Void{}, err
	}
}

// contrast judges every text that is shown as WCAG 2.2 AA does: 4.5 to 1, and
// 3 to 1 where it is large. See https://www.w3.org/TR/WCAG22/#contrast-minimum.
const contrast = `(() => {
	const parse = c => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return {r, g, b, a}; };
	const over = (top, under) => ({r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1});
	const light = c => [c.r, c.g, c.b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = e => {
		const layers = [];
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			layers.push(c);
			if (c.a === 1) break;
		}
		return layers.reduceRight((under, c) => over(c, under), {r: 255, g: 255, b: 255, a: 1});
	};
	const out = {Wide: document.documentElement.scrollWidth, Texts: 0, Faint: []};
	const judge = (e, style, text) => {
		const under = ground(e), ink = over(parse(style.color), under);
		const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		out.Texts++;
		if (ratio < (large ? 3 : 4.5)) out.Faint.push(ratio.toFixed(2) + " to 1: " + text.slice(0, 60));
	};
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement;
		if (text && e.checkVisibility({visibilityProperty: true}) && !e.closest(".quiet, datalist")) judge(e, getComputedStyle(e), text);
	}
	for (const e of document.querySelectorAll("input:not([type=hidden]), textarea")) {
		if (!e.checkVisibility()) continue;
		if (e.placeholder) judge(e, getComputedStyle(e, "::placeholder"), e.placeholder);
		if (e.value) judge(e, getComputedStyle(e), e.value);
	}
	return JSON.stringify(out);
})()`

// tabTo presses Tab until what a selector names has the focus. Wherever the
// focus comes on the way, it shows.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	const most = 100
	for range most {
		b.do(chromedp.KeyEvent("\t"))
		at := must[string](b, fmt.Sprintf(`(() => {
			const e = document.activeElement;
			if (e === document.body) return "";
			const style = getComputedStyle(e);
			if (!e.matches(":focus-visible") || style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "nothing shows the focus on " + e.outerHTML.slice(0, 200);
			return e.matches(%s) ? "there" : "";
		})()`, quoted(selector)))
		if at == "there" {
			return
		}
		if at != "" {
			b.t.Error(at)
		}
	}
	b.t.Fatalf("%d Tabs do not lead to %s; the page:\n%s", most, selector, b.text())
}

// press presses keys where the focus is.
func (b *browser) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// signIn leaves, and comes back as somebody.
func (b *browser) signIn(as string) {
	b.t.Helper()
	b.open("/sign-in")
	b.click(`button[value="` + as + `"]`)
	b.says(as)
	b.until(`location.pathname == "/"`)
}

var errNoLogin = errors.New("the page shows no login")

// login reads the credential that the page shows.
func (b *browser) login() (username, password string, err error) {
	username, err = script[string](b, `document.getElementById("line-user-name")?.textContent ?? ""`)
	if err == nil {
		password, err = script[string](b, `document.getElementById("line-password")?.textContent ?? ""`)
	}
	if err == nil && (username == "" || password == "") {
		err = errNoLogin
	}
	return strings.TrimSpace(username), strings.TrimSpace(password), err
}

// The check of contrast finds what it is for.
func TestContrastIsJudged(t *testing.T) {
	b := newBrowser(t, "about:blank")
	b.open("")
	page := bytes.NewBufferString(`document.body.style.backgroundColor = "white"; document.body.innerHTML = "";`)
	for _, text := range []struct{ words, color string }{{"good", "rgb(89, 89, 89)"}, {"faint", "rgb(150, 150, 150)"}, {"thin", "rgba(0, 0, 0, 0.4)"}} {
		fmt.Fprintf(page, `{ const p = document.createElement("p"); p.textContent = %q; p.style.color = %q; document.body.append(p); }`, text.words, text.color)
	}
	must[bool](b, page.String()+`; true`)
	got := must[string](b, contrast)
	if !strings.Contains(got, "faint") || !strings.Contains(got, "thin") || strings.Contains(got, "good") || !strings.Contains(got, `"Texts":3`) {
		t.Error(got)
	}
}
