import { describe, expect, it } from 'vitest';
import { detail } from '../src/core/detail.ts';
import { rate } from '../src/core/format.ts';
import { glyphs, hasGap, isMarker, isPiece, label, spoken, visible } from '../src/core/glyphs.ts';
import { stepName } from '../src/core/names.ts';
import { cells, effectiveTokens, isOffTop, probabilityBin, STACK, weightBin } from '../src/core/scale.ts';
import { Series, span } from '../src/core/series.ts';
import { events, folded, step } from './fixtures.ts';

describe('cells of a column', () => {
  it('are exactly as high as their weights and fill the column', () => {
    for (const name of ['run', 'nucleus'] as const) {
      for (const drawn of folded(events(name)).steps) {
        const column = cells(drawn);
        column.forEach(({ weight, height }) => expect(height).toBeCloseTo(weight * STACK, 9));
        expect(column.reduce((sum, { height }) => sum + height, 0)).toBeCloseTo(STACK, 3);
      }
    }
  });

  it('begin with the heaviest and give a label only where it fits', () => {
    const column = cells(step());
    expect(column.map(({ text }) => text)).toEqual([' break', ' think', ' compute', ' try', ' do']);
    expect(column.map(({ labelled }) => labelled)).toEqual([true, true, false, false, false]);
  });

  it('close with what has no cell of its own', () => {
    const fed = Array.from({ length: 64 }, (_, id) => ({ id, text: `t${id}`, weight: 0.01 }));
    const column = cells(step({ fed, fed_rest: { count: 192, weight: 0.36 } }));
    expect(column).toHaveLength(11);
    expect(column.at(-1)).toMatchObject({ text: null });
    expect(column.at(-1)?.weight).toBeCloseTo(0.9);
  });

  it('keep the sign of an affine weight', () => {
    const fed = [{ id: 1, text: 'a', weight: 1.25 }, { id: 2, text: 'b', weight: -0.25 }];
    expect(cells(step({ fed })).map(({ weight, height }) => [weight, height])).toEqual([[1.25, 90], [-0.25, 18]]);
  });
});

describe('speeds', () => {
  it('are short, whatever a file says', () => {
    expect([31.04, 204.9, 9999.4, 48_213.7, 1_250_000, 3.2e9, 1e300].map(rate)).toEqual(['31.0', '205', '9999', '48.2 k', '1.25 M', '3.2 G', '1.0e+300']);
  });
});

describe('bins', () => {
  it('have the bounds of the legend', () => {
    expect([1, 0.9, 0.89, 0.5, 0.2, 0.05, 0.049, 0].map(probabilityBin)).toEqual([0, 0, 1, 1, 2, 3, 4, 4]);
    expect([0, 0.099, 0.1, 0.3, 0.6, 1, -0.7].map(weightBin)).toEqual([1, 1, 2, 3, 4, 4, 4]);
  });

  it('know a drawn token that was not the likeliest', () => {
    expect(isOffTop(step({ kind: 'sampled', token: { id: 2, text: ' think', probability: 0.273 } }))).toBe(true);
    expect(isOffTop(step({ kind: 'sampled' }))).toBe(false);
    expect(isOffTop(step())).toBe(false); // a mixture draws nothing
  });
});

describe('glyphs', () => {
  it('show what has no look of its own', () => {
    expect(glyphs(' a\n\tb')).toBe('␣a↵⇥b');
    expect(label(' break')).toBe('break');
    expect(label(' ')).toBe('␣');
    expect(label('\n\n')).toBe('↵↵');
    expect([hasGap(' a'), hasGap(' '), hasGap('  a'), hasGap('a')]).toEqual([true, false, false, false]);
  });

  it('disarm control and direction characters', () => {
    expect(visible('a\u202eb\u0000\u2066')).toBe('a⟨202E⟩b⟨00⟩⟨2066⟩');
    expect(visible('👩‍👧 é\n')).toBe('👩‍👧 é\n');
  });

  it('know markers and parts of characters', () => {
    expect(['</think>', '<|im_end|>', '<think>', '<answer>', '[INST]'].every(isMarker)).toBe(true);
    expect(['<', 'a<b>', '</', '< b>'].some(isMarker)).toBe(false);
    expect([isPiece('⟨E2 80⟩'), isPiece('⟨C3⟩'), isPiece('⟨'), isPiece('E2')]).toEqual([true, true, false, false]);
  });

  it('can be said', () => {
    expect([' break', ',', '\n', '\n\n', ' ', '   ', '\t', ''].map(spoken)).toEqual([
      'break', 'comma', 'newline', '2 newlines', 'space', '3 spaces', 'tab', 'nothing',
    ]);
  });
});

describe('the name of a step', () => {
  it('says number, kind and tokens with percentages', () => {
    expect(stepName(step())).toBe('step 14, mixture, break 42 percent, think 33 percent, 3 more');
    const drawn = step({ kind: 'sampled', token: { id: 2, text: ' think', probability: 0.273 } });
    expect(stepName(drawn)).toBe('step 14, sampled, think 27 percent, likeliest was break 35 percent');
    const forced = step({ kind: 'injected', token: { id: 9, text: '</think>', probability: null } });
    expect(stepName(forced, 'because T_e = 24 reached')).toBe('step 14, injected, </think>, because T_e = 24 reached');
  });

  it('never says 0 percent of something', () => {
    const fed = [{ id: 1, text: 'a', weight: 0.999 }, { id: 2, text: 'b', weight: 0.001 }];
    expect(stepName(step({ fed }))).toBe('step 14, mixture, a 100 percent, b under 1 percent');
  });
});

describe('fed beside believed', () => {
  it('closes both sums for every recorded step', () => {
    for (const name of ['run', 'nucleus', 'sample'] as const) {
      for (const drawn of folded(events(name)).steps) {
        const { rows, rest } = detail(drawn, 263);
        expect(rows.reduce((sum, { fed }) => sum + fed, rest.fed)).toBeCloseTo(1, 5);
        expect(rows.reduce((sum, { believed }) => sum + (believed ?? 0), rest.believed)).toBeCloseTo(1, 5);
        expect(rest.count).toBe(263 - rows.length);
      }
    }
  });

  it('takes a drawn token of known probability out of the rest', () => {
    const drawn = step({
      kind: 'sampled', token: { id: 99, text: ' odd', probability: 0.01 }, fed: [{ id: 99, text: ' odd', weight: 1 }],
    });
    const { rows, rest } = detail(drawn, null);
    expect(rows[0]).toEqual({ id: 99, text: ' odd', fed: 1, believed: 0.01 });
    expect(rest).toEqual({ count: null, fed: 0, believed: 0.372 });
  });

  it('has e^H effective tokens', () => {
    expect(effectiveTokens(Math.log(4))).toBeCloseTo(4);
  });
});

describe('the series of the timeline', () => {
  it('keeps every spike when it is drawn narrow', () => {
    const series = new Series();
    for (let i = 0; i < 8000; i++) series.push(i === 5001 ? 9 : i % 3, i < 4000 ? 'mixture' : 'sampled');
    const shape = series.shape(0, 8000, 800);
    expect(shape.length).toBeLessThanOrEqual(1600);
    expect(shape.some(({ index, value }) => index === 5001 && value === 9)).toBe(true);
    expect(shape.every(({ index }, i) => i === 0 || index > shape[i - 1]!.index)).toBe(true);
    expect(series.runs).toEqual([{ kind: 'mixture', from: 0, to: 4000 }, { kind: 'sampled', from: 4000, to: 8000 }]);
  });

  it('has an axis that doubles while it grows and ends at the end', () => {
    expect([span(1, false), span(64, false), span(65, false), span(117, true), span(0, true)]).toEqual([64, 64, 128, 117, 1]);
  });
});
