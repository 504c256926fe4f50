import { describe, expect, it } from 'vitest';
import { METRICS } from '../src/core/metrics.ts';
import { type Look, sheet } from '../src/core/sheet.ts';
import { cells } from '../src/core/scale.ts';
import { newRun } from '../src/core/reducer.ts';
import { events, folded, step } from './fixtures.ts';

const look: Look = {
  ink: '#000', mut: '#555', line: '#ddd', edge: '#888', bg: '#fff', mixture: '#00f', sampled: '#f80',
  weights: ['#fff', '#b1b1b1', '#b2b2b2', '#b3b3b3', '#b4b4b4'], tints: ['#fff', '#f1f1f1', '#f2f2f2', '#f3f3f3', '#f4f4f4'],
  mono: 'monospace', sans: 'sans-serif', measure: (text) => text.length * 8,
};

describe('the picture of a run', () => {
  it('has every step once, in its place, with cells as high as their weights', () => {
    for (const name of ['run', 'nucleus', 'sample'] as const) {
      const run = folded(events(name));
      const { svg } = sheet(run, look, METRICS.probability);
      const groups = svg.split(/(?=<g data-step)/).slice(1);
      expect(groups.map((group) => Number(/data-step="(\d+)"/.exec(group)?.[1]))).toEqual(run.steps.map(({ step: at }) => at));
      for (const drawn of run.steps.filter(({ phase, kind }) => phase === 'thinking' && kind === 'mixture')) {
        const group = groups[drawn.step] ?? '';
        const heights = [...group.matchAll(/<rect[^>]* height="([\d.]+)" fill/g)].map(([, height]) => Number(height));
        cells(drawn).forEach(({ height }, at) => expect(heights[at]).toBeCloseTo(height, 3));
      }
    }
  });

  it('says what was fed as text, whatever it is', () => {
    const run = newRun('x');
    const hostile = ['<script>alert(1)</script>', '"&amp;', '\u0000\ud800', ']]>'];
    run.steps = hostile.map((text, at) => step({ step: at, phase: 'answer', kind: 'sampled', text, token: { id: at, text, probability: 0.1 } }));
    const { svg } = sheet(run, look, METRICS.probability);
    expect(svg).not.toContain('<script');
    expect(svg).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(svg).toContain('&quot;&amp;amp;');
    expect(svg).toContain('⟨00⟩\ufffd');
    expect(svg).toContain(']]&gt;');
  });

  it('says which steps found no room', () => {
    const run = newRun('x');
    run.steps = Array.from({ length: 2000 }, (_, at) => step({ step: at }));
    const { svg, height } = sheet(run, look, METRICS.probability, 1000);
    expect(height).toBeLessThan(1040);
    const drawn = [...svg.matchAll(/data-step/g)].length;
    expect(svg).toContain(`Steps ${drawn} to 1999 are left out here`);
    expect(sheet(run, look, METRICS.probability).svg).not.toContain('left out');
  });
});
