/** What the status line and the tab say of a run. */

import type { Facts } from '../core/facts.ts';
import { duration, plural, rate } from '../core/format.ts';
import type { Pending } from '../core/steer.ts';
import type { Connection } from './watch.ts';

export interface Words {
  sign: string;
  text: string;
  tone: 'idle' | 'busy' | 'mixture' | 'sampled' | 'good' | 'bad';
}

/** What is going on, in words that change at boundaries only: this is announced. */
export function statusWords(facts: Facts | null, connection: Connection, pending: Pending, loading: string | null): Words {
  if (pending === 'waiting') return { sign: '…', text: `waits for the model${loading ? '' : ' to load'}`, tone: 'busy' };
  if (pending === 'sending') return { sign: '…', text: 'sending', tone: 'busy' };
  if (connection === 'missing') return { sign: '✗', text: 'there is no such run', tone: 'bad' };
  if (connection === 'reconnecting') return { sign: '↻', text: 'reconnecting…', tone: 'busy' };
  if (!facts) return { sign: '', text: 'ready for a prompt', tone: 'idle' };
  if (facts.status === 'unknown') return { sign: '…', text: 'opening the run', tone: 'busy' };
  if (pending === 'cancel') return { sign: '■', text: 'stopping…', tone: 'busy' };
  if (facts.paused) return { sign: '❚❚', text: `paused at step ${facts.steps}`, tone: 'idle' };
  switch (facts.doing) {
    case 'queued':
      return { sign: '…', text: 'queued', tone: 'busy' };
    case 'reading':
      return { sign: '▶', text: 'reading the prompt', tone: 'busy' };
    case 'thinking':
      return facts.seen.sampled && !facts.seen.mixture
        ? { sign: '▶', text: 'thinking in sampled tokens', tone: 'sampled' }
        : { sign: '▶', text: 'thinking in mixtures', tone: 'mixture' };
    case 'answering':
      if (facts.whole) return { sign: '▶', text: 'generating, mixing throughout', tone: 'mixture' };
      return { sign: '▶', text: 'answering', tone: 'sampled' };
    case 'over':
      return overWords(facts);
  }
}

function overWords({ status, steps, used, timing }: Facts): Words {
  const forced = steps - used.thinking - used.answer; // which T_total does not count
  const took = timing && timing.decode_s > 0 ? ` in ${duration(timing.decode_s)}, ${rate(timing.tokens_per_second)} tokens/s` : '';
  if (status === 'finished') return { sign: '✓', text: `done: ${plural(steps, 'step')}${forced ? ` (${forced} forced)` : ''}${took}`, tone: 'good' };
  if (status === 'cancelled') return { sign: '■', text: `stopped after ${plural(steps, 'step')}${took}`, tone: 'idle' };
  return { sign: '✗', text: `failed after ${plural(steps, 'step')}`, tone: 'bad' };
}

/** The title of the tab: "▶ 35 · thinking", "✓ 1462". */
export function title(facts: Facts | null, answer: string): string {
  if (!facts || facts.status === 'unknown') return 'superpose';
  if (facts.paused) return `❚❚ ${facts.steps} · paused – superpose`;
  if (facts.doing !== 'over') {
    const what = facts.doing === 'thinking' || facts.doing === 'answering' ? `▶ ${facts.steps} · ${facts.doing}` : `… ${facts.doing}`;
    return `${what} – superpose`;
  }
  if (facts.status === 'failed') return '✗ failed – superpose';
  const line = answer.replace(/[*#$`]/g, '').trim().split('\n')[0] ?? '';
  const short = line.length > 32 ? `${line.slice(0, 31)}…` : line;
  return `${facts.status === 'finished' ? '✓' : '■'} ${short || 'done'} – superpose`;
}

export function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
