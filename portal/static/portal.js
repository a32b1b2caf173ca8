// What the pages can do without a script they do without one. This adds: times
// as the reader's clock has them, time that runs, copying, search while
// typing, and a look again while something is under way.
'use strict';

const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, {hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'});
const calendar = new Intl.DateTimeFormat(language, {day: 'numeric', month: 'short'});

function span(seconds) {
  const d = Math.floor(seconds / 86400), h = Math.floor(seconds / 3600) % 24, m = Math.floor(seconds / 60) % 60, s = seconds % 60;
  if (d > 0) return `${d}d ${h}h`;
  if (h > 0) return `${h}h ${m}m`;
  return m > 0 ? `${m}m ${s}s` : `${s}s`;
}

function localise(root) {
  for (const t of root.querySelectorAll('time[datetime]')) {
    const at = new Date(t.dateTime), today = at.toDateString() === new Date().toDateString();
    t.title = at.toISOString();
    t.textContent = today ? clock.format(at) : `${calendar.format(at)}, ${clock.format(at).slice(0, 5)}`;
  }
}

function tick() {
  for (const e of document.querySelectorAll('[data-until]')) {
    const seconds = Math.floor((new Date(e.dataset.until) - Date.now()) / 1000);
    e.textContent = seconds >= 0 ? span(seconds) : span(-seconds);
    if (seconds < 0 && !e.dataset.late) { e.dataset.late = 'yes'; look(); }
  }
  for (const e of document.querySelectorAll('progress[data-from]')) {
    const from = new Date(e.dataset.from), to = new Date(e.dataset.to);
    e.value = Math.max(0, Math.min(1, (to - Date.now()) / (to - from)));
  }
}

function copying(root) {
  if (!navigator.clipboard) return; // only where the page came safely
  for (const b of root.querySelectorAll('button[data-copy]')) {
    b.hidden = false;
    b.addEventListener('click', async () => {
      await navigator.clipboard.writeText(document.getElementById(b.dataset.copy).textContent);
      b.textContent = 'Copied';
      setTimeout(() => { b.textContent = 'Copy'; }, 2000);
    });
  }
}

function dress(root) { localise(root); copying(root); }

// swap takes the parts named by id from another version of this page, unless
// somebody is typing in them.
function swap(text, ids) {
  const next = new DOMParser().parseFromString(text, 'text/html');
  for (const id of ids) {
    const old = document.getElementById(id), fresh = next.getElementById(id);
    if (!old || !fresh || old.contains(document.activeElement)) continue;
    old.replaceWith(document.adoptNode(fresh));
    dress(fresh);
  }
}

// look reads the page again while what it shows is changing.
async function look() {
  if (!document.getElementById('live')) return;
  try {
    const answer = await fetch(location.href, {headers: {Accept: 'text/html'}});
    if (answer.ok && !answer.redirected) swap(await answer.text(), ['live', 'story']);
  } catch { /* the next look may work */ }
}
let turn = 0;
setInterval(() => {
  turn++;
  if (!document.hidden && (turn % 7 === 0 || document.querySelector('[data-changing]'))) look();
}, 1500);

// Search while typing: the same form, of whose answer only the results are used.
const search = document.getElementById('q');
if (search) {
  let waiting, asked = 0;
  const find = async () => {
    const form = search.form, turn = ++asked, body = new URLSearchParams(new FormData(form));
    body.set('do', 'find');
    const answer = await fetch(form.action, {method: 'POST', body, headers: {Accept: 'text/html'}});
    if (answer.ok && turn === asked) swap(await answer.text(), ['results']);
  };
  search.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(find, 200); });
}

document.addEventListener('submit', e => e.target.setAttribute('aria-busy', 'true'));
addEventListener('pageshow', () => { for (const f of document.forms) f.removeAttribute('aria-busy'); });

dress(document);
tick();
setInterval(tick, 1000);
