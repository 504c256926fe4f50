import { describe, expect, it } from 'vitest';
import { album, shares } from '../src/core/album.ts';
import type { Look } from '../src/core/ink.ts';
import { METRICS } from '../src/core/metrics.ts';
import { newRun, type RunState } from '../src/core/reducer.ts';
import { tooMuch } from '../src/core/runs.ts';
import { cells } from '../src/core/scale.ts';
import { type Sheet, sheet } from '../src/core/sheet.ts';
import type { Style } from '../src/core/sheetItems.ts';
import { events, folded, step } from './fixtures.ts';

const look: Look = {
  ink: '#000', mut: '#555', line: '#ddd', edge: '#888', bg: '#fff', bad: '#b00', mixture: '#00f', sampled: '#f80',
  weights: ['#fff', '#b1b1b1', '#b2b2b2', '#b3b3b3', '#b4b4b4'], tints: ['#fff', '#f1f1f1', '#f2f2f2', '#f3f3f3', '#f4f4f4'],
  mono: 'monospace', sans: 'sans-serif', measure: (text) => text.length * 8,
};
const plain: Style = { tint: METRICS.probability, view: 'stack', glyphs: false };

/** The sheet, and how often it paused. */
function drawn(run: RunState, style: Partial<Style> = {}, most?: number, name: string | null = null): Sheet & { pauses: number } {
  const work = sheet({ run, name }, look, { ...plain, ...style }, most);
  for (let pauses = 0; ; pauses++) {
    const { done, value } = work.next();
    if (done) return { ...value, pauses };
  }
}

const svgOf = (...of: Parameters<typeof drawn>): string => album([drawn(...of)], look).svg;
const stepsOf = (svg: string): string[] => svg.split(/(?=<g data-step)/).slice(1);
const numbersOf = (svg: string): number[] => stepsOf(svg).map((group) => Number(/data-step="(\d+)"/.exec(group)?.[1]));
const heightsOf = (group = ''): number[] => [...group.matchAll(/<rect[^>]* height="([\d.]+)" fill="#b/g)].map(([, height]) => Number(height));

function long(steps: number): RunState {
  const run = newRun('x');
  run.steps = Array.from({ length: steps }, (_, at) => step({ step: at }));
  return run;
}

describe('the picture of a run', () => {
  it('has every step once, in its place, with cells as high as their weights', () => {
    for (const name of ['run', 'nucleus', 'sample'] as const) {
      const run = folded(events(name));
      const svg = svgOf(run);
      expect(numbersOf(svg)).toEqual(run.steps.map(({ step: at }) => at));
      const groups = stepsOf(svg);
      for (const made of run.steps.filter(({ phase, kind }) => phase === 'thinking' && kind === 'mixture')) {
        const heights = heightsOf(groups[made.step]);
        cells(made).forEach(({ height }, at) => expect(heights[at]).toBeCloseTo(height, 3));
      }
    }
  });

  it('pins the step that was edited by hand, in every view', () => {
    const run = long(4);
    const fork = { run: 'y', step: 2, mixture: { ids: [1, 2], weights: [0.5, 0.5], combine: 'sum' as const } };
    const spec = folded(events('run')).spec!;
    const pinned = (svg: string): number[] => stepsOf(svg).flatMap((group, at) => (group.includes('edited by hand') ? [at] : []));
    for (const view of ['stack', 'ladder', 'text'] as const) {
      run.spec = { ...spec, fork };
      expect(pinned(svgOf(run, { view }))).toEqual([2]);
      run.spec = { ...spec, fork: { ...fork, mixture: null } };
      expect(pinned(svgOf(run, { view }))).toEqual([]);
    }
    run.spec = { ...spec, fork };
    run.steps[2] = step({ step: 2, kind: 'injected' });
    expect(pinned(svgOf(run))).toEqual([2]);
  });

  it('is drawn as the stream is: stack, ladder or text, with glyphs on request', () => {
    const run = long(3);
    const [, ladder = ''] = stepsOf(svgOf(run, { view: 'ladder' }));
    expect(heightsOf(ladder)).toEqual([13, 13, 13, 13, 13]);
    for (const text of ['think', 'comp…', 'try', 'do']) expect(ladder).toContain(`>${text}<`);
    const [, text = ''] = stepsOf(svgOf(run, { view: 'text' }));
    expect(text).toContain('> break<');
    expect(text).not.toContain('think<');
    expect(numbersOf(svgOf(run, { view: 'text' }))).toEqual([0, 1, 2]);
    expect(stepsOf(svgOf(run, { glyphs: true }))[1]).toContain('>␣break<');
    expect(stepsOf(svgOf(run, { glyphs: true, view: 'text' }))[1]).toContain('>␣break<');
    expect(svgOf(run)).not.toContain('␣');
  });

  it('ends a row with line breaks, of which several one after another share one', () => {
    const run = newRun('x');
    const texts = ['a', '\n', '\n', '\n\n', 'b', 'c\n', 'd'];
    run.steps = texts.map((text, at) => step({ step: at, text, token: { id: at, text, probability: 0.5 } }));
    const tops = stepsOf(svgOf(run)).map((group) => Number(/<rect[^>]* y="([\d.]+)"/.exec(group)?.[1]));
    const rows = [...new Set(tops)];
    expect(tops.map((top) => rows.indexOf(top))).toEqual([0, 0, 0, 0, 1, 1, 2]);
  });

  it('marks the token that sampling would have fed where it lies in its column', () => {
    const run = newRun('x');
    run.steps = [step({ step: 0, phase: 'answer', drawn: { id: 2, text: ' think', probability: 0.273 } })];
    run.whole = true;
    const svg = svgOf(run);
    const top = Number(/<rect x="24" y="([\d.]+)"[^>]*fill="#b3/.exec(svg)?.[1]);
    expect(Number(/cy="([\d.]+)"/.exec(svg)?.[1])).toBeCloseTo(top + 72 * (0.42 + 0.33 / 2), 3);
    expect(svgOf(long(1))).not.toContain('<circle');
  });

  it('says what was fed as text, whatever it is', () => {
    const run = newRun('x');
    const hostile = ['<script>alert(1)</script>', '"&amp;', '\u0000\ud800', ']]>'];
    run.steps = hostile.map((text, at) => step({ step: at, phase: 'answer', kind: 'sampled', text, token: { id: at, text, probability: 0.1 } }));
    const svg = svgOf(run, {}, undefined, '<b>my run</b>');
    expect(svg).not.toContain('<script');
    expect(svg).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(svg).toContain('&quot;&amp;amp;');
    expect(svg).toContain('⟨00⟩\ufffd');
    expect(svg).toContain(']]&gt;');
    expect(svg).toContain('&lt;b&gt;my run&lt;/b&gt; · run x');
  });

  it('says which steps found no room', () => {
    const { parts, height, cut } = drawn(long(2000), {}, 1000);
    expect(height).toBeLessThanOrEqual(1000);
    const numbers = numbersOf(parts.join(''));
    expect(cut).toBe(numbers.length);
    expect(parts.join('')).toContain(`Steps ${numbers.length} to 1999 are left out here; the SVG has all 2\u202f000 steps.`);
    expect(drawn(long(2000)).parts.join('')).not.toContain('left out');
  });

  it('pauses after every row, so that a long run does not hold the page', () => {
    const { pauses, parts } = drawn(long(8000));
    expect(numbersOf(parts.join(''))).toHaveLength(8000);
    expect(pauses).toBeGreaterThan(150);
    expect(drawn(long(8000), { view: 'text' }).pauses).toBeGreaterThan(150);
  });

  it('says of a run without steps, or of one that failed, what became of it', () => {
    const ended = (status: RunState['status'], steps: number, error: string | null = null): string => svgOf({ ...long(steps), status, error });
    expect(ended('failed', 0, 'out of memory')).toContain('The run failed before its first step: out of memory');
    expect(ended('failed', 1, 'a < b')).toContain('The run failed after 1 step: a &lt; b');
    expect(ended('queued', 0)).toContain('The run was not over when this picture was made, before its first step.');
    expect(ended('cancelled', 0)).toContain('The run was stopped before its first step.');
    expect(ended('finished', 3)).not.toContain('The run was');
  });

  it('keeps many forced tokens inside its edges', () => {
    const run = newRun('x');
    run.steps = Array.from({ length: 300 }, (_, at) => step({ step: at, phase: 'transition', kind: 'injected', text: ' forced', reason: 'fed by the template' }));
    const right = [...svgOf(run).matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)].map(([, x, width]) => Number(x) + Number(width));
    expect(right.length).toBeGreaterThan(300);
    expect(Math.max(...right)).toBeLessThanOrEqual(1200 - 24);
  });
});

describe('several pictures in one', () => {
  it('stand under each other, each with its caption', () => {
    const sheets = ['first', 'second'].map((name) => drawn(long(40), {}, undefined, name));
    const { svg, height } = album(sheets, look);
    expect(height).toBe(sheets.reduce((sum, each) => sum + each.height, 0));
    expect(svg).toContain(`height="${height}" viewBox="0 0 1200 ${height}"`);
    expect([...svg.matchAll(/translate\(0 (\d+)\)/g)].map(([, y]) => Number(y))).toEqual([0, sheets[0]?.height]);
    expect(svg.indexOf('first · run x')).toBeLessThan(svg.indexOf('second · run x'));
  });

  it('share the height: what is low stays whole', () => {
    expect(shares([100, 200, 300], 1000)).toEqual([100, 200, 300]);
    expect(shares([900, 100, 900], 1000)).toEqual([450, 100, 450]);
    expect(shares([5000, 5000], 1001)).toEqual([500, 500]);
  });

  it('are refused where nobody could open the file', () => {
    const rows = (n: number, steps: number): { steps: number }[] => Array.from({ length: n }, () => ({ steps }));
    expect(tooMuch(rows(1, 90_000))).toBeNull();
    expect(tooMuch(rows(20, 1000))).toBeNull();
    expect(tooMuch(rows(21, 1))).toBe('at most 20 runs; 21 are selected');
    expect(tooMuch(rows(2, 10_001))).toBe('at most 20\u202f000 steps; these runs have 20\u202f002');
  });
});
