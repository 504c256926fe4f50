import { describe, expect, it } from 'vitest';
import { bound, secondsLeft, speed } from '../src/core/eta.ts';
import { apply, doing, newRun } from '../src/core/reducer.ts';
import { events, folded } from './fixtures.ts';

describe('a run folded from its events', () => {
  it('holds every step at its number, over both phases', () => {
    const list = events('run');
    const steps = list.filter((event) => event.type === 'step');
    const of = (phase: string) => steps.filter((step) => step.phase === phase);
    const run = folded(list);
    expect(run.status).toBe('finished');
    expect(run.steps).toEqual(steps);
    expect(run.steps.every((step, index) => step.step === index)).toBe(true);
    expect(run.used).toEqual({ thinking: of('thinking').length, answer: of('answer').length });
    expect(run.text.thinking).toBe(of('thinking').map(({ text }) => text).join(''));
    expect(run.text.answer).toBe(of('answer').map(({ text }) => text).join(''));
    expect(run.ended.thinking).toMatchObject({ ended_by: 'T_e', at: of('thinking').length });
    expect(run.ended.answer).toMatchObject({ at: steps.length });
    expect(run.timing?.tokens_per_second).toBeGreaterThan(0);
  });

  it('is the same after a replay of any part: nothing is doubled', () => {
    const list = events('nucleus');
    const whole = folded(list);
    const run = newRun('fixture');
    for (const event of list.slice(0, 20)) apply(run, event);
    for (const event of list.slice(7)) apply(run, event);
    expect(run).toEqual(whole);
    expect(apply(run, list[30]!)).toBe(false);
  });

  it('says at every moment what it is doing', () => {
    const run = newRun('fixture');
    const said: string[] = [];
    for (const event of events('run')) {
      apply(run, event);
      if (said.at(-1) !== doing(run)) said.push(doing(run));
    }
    expect(said).toEqual(['queued', 'reading', 'thinking', 'answering', 'over']);
  });

  it('keeps a failed run up to its last step', () => {
    const list = events('run').slice(0, 10);
    const run = folded([...list, { type: 'run_failed', run: 'fixture', seq: 10, error: 'out of memory at step 7' }]);
    expect(run).toMatchObject({ status: 'failed', error: 'out of memory at step 7' });
    expect(run.steps).toHaveLength(7);
  });
});

describe('speed and time left', () => {
  it('come from the last steps and bound the rest by T_total', () => {
    const run = folded(events('run').slice(0, 60));
    const recent = run.steps.slice(-20).reduce((sum, { t_ms }) => sum + t_ms, 0) / 20;
    expect(speed(run) / (1000 / recent)).toBeCloseTo(1, 0);
    expect(secondsLeft(run)).toBeCloseTo((250 - run.used.thinking - run.used.answer) / speed(run));
  });

  it('are not made up before there is something to measure, nor after the end', () => {
    expect(secondsLeft(folded(events('run').slice(0, 4)))).toBeNull();
    expect(secondsLeft(folded(events('run')))).toBeNull();
    const run = folded(events('run'));
    expect(speed(run)).toBe(run.timing?.tokens_per_second);
  });

  it('read as upper bounds', () => {
    expect([0.2, 7.1, 33, 89, 91, 600].map(bound)).toEqual(['≤ 1 s', '≤ 8 s', '≤ 35 s', '≤ 90 s', '≤ 2 min', '≤ 10 min']);
  });
});
