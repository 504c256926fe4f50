// @vitest-environment jsdom
import { expect, it } from 'vitest';
import { ThinkingStream } from '../src/canvas/streams.ts';
import { step } from './fixtures.ts';

it('ends a row with line breaks, of which several one after another share one', () => {
  const stream = new ThinkingStream();
  const texts = ['a', '\n', '\n', '\n\n', 'b', 'c\n', 'd', '\n'];
  const steps = texts.map((text, at) => step({ step: at, text, token: { id: at, text, probability: 0.5 } }));
  const elements: HTMLElement[] = [];
  for (const one of steps) stream.append([one], elements);
  stream.end({ phase: 'thinking', reason: 'T_e = 8 reached', ended_by: 'T_e' } as Parameters<ThinkingStream['end']>[0]);
  const rows = [...new Set(elements.map(({ parentElement }) => parentElement))];
  expect(elements.map(({ parentElement }) => rows.indexOf(parentElement))).toEqual([0, 0, 0, 0, 1, 1, 2, 2]);
  expect(rows[0]?.classList.contains('para')).toBe(true); // it ends with an empty line
  expect(rows.some((row) => row?.querySelector('.gate'))).toBe(false); // the end stands in a row of its own
  expect(stream.root.querySelector('.gate')).not.toBeNull();
});
