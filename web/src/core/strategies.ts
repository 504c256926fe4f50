/** Strategies as people read them: groups, the parts of a docstring, parameters in words. */

import type { StrategyInfo } from './events.ts';
import { type Field, fieldsOf } from './form.ts';

/** The lab's own six, then the baseline. */
const FIRST = [
  'non_uniform', 'element_wise_max', 'inverse_p', 'dirichlet', 'nucleus', 'answer_directly_element_wise_max', 'sample',
];

export interface Group {
  label: string | null; // null: these need none
  strategies: StrategyInfo[];
}

export function grouped(strategies: readonly StrategyInfo[]): Group[] {
  const first = FIRST.flatMap((name) => strategies.filter((strategy) => strategy.name === name));
  const others = strategies.filter((strategy) => !first.includes(strategy));
  const groups: Group[] = [
    { label: null, strategies: first },
    { label: 'From papers', strategies: others.filter(({ paper }) => paper !== null) },
    { label: 'Experiments', strategies: others.filter(({ paper }) => paper === null) },
  ];
  return groups.filter((group) => group.strategies.length > 0);
}

export interface Part {
  head: string | null; // Formula, Source, Deviations
  text: string;
}

/** The paragraphs of a docstring after its first line, each with its head; lines are joined. */
export function partsOf(doc: string): Part[] {
  const parts: Part[] = [];
  let open = false;
  for (const line of doc.split('\n').slice(1).map((each) => each.trim())) {
    const headed = /^(Formula|Source|Deviations):\s*(.*)$/.exec(line);
    const last = parts.at(-1);
    if (headed?.[1]) parts.push({ head: headed[1], text: headed[1] === 'Deviations' ? sentence(headed[2]) : (headed[2] ?? '') });
    else if (line && open && last) last.text = `${last.text} ${line}`.trim();
    else if (line) parts.push({ head: null, text: line });
    open = line !== '';
  }
  return parts;
}

function sentence(text = ''): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export type Piece = { text: string; href: string | null; code: boolean };

/** A text cut at its arXiv ids, which become links, and at what stands between backticks. */
export function piecesOf(text: string): Piece[] {
  return text
    .split(/(arXiv \d{4}\.\d{4,5}|`[^`]+`)/)
    .filter(Boolean)
    .map((piece) => {
      const id = /^arXiv (\S+)$/.exec(piece)?.[1];
      if (id) return { text: piece, href: paperHref(id), code: false };
      const code = /^`(.+)`$/.exec(piece)?.[1];
      return { text: code ?? piece, href: null, code: code !== undefined };
    });
}

export function paperHref(id: string): string {
  return `https://arxiv.org/abs/${id}`;
}

/** What a parameter may be: "1 to 256", "above 0, at most 1", "none, mean_norm", "yes or no". */
export function rangeOf({ type, min, max, above, below, options, nullable }: Field): string {
  const or = nullable ? ', or nothing' : '';
  if (options) return options.join(', ') + or;
  if (type === 'boolean') return 'yes or no';
  if (type === 'string') return 'text' + or;
  const whole = type === 'integer' ? 'whole, ' : '';
  const [low, high] = [min, max].map((bound) => (bound === null ? null : figure(bound)));
  if (low !== null && high !== null && !above && !below) return `${whole}${low} to ${high}${or}`;
  const words = [low && `${above ? 'above' : 'at least'} ${low}`, high && `${below ? 'below' : 'at most'} ${high}`];
  return (words.filter(Boolean).join(', ') || (whole ? 'a whole number' : 'a number')) + or;
}

/** A default as it is shown: line breaks visible, "yes" and "no" for switches. */
export function defaultOf({ type, initial }: Field): string {
  if (type === 'boolean') return initial === 'true' ? 'yes' : 'no';
  return initial === '' ? '–' : initial.replaceAll('\n', '↵');
}

export function parametersOf(strategy: StrategyInfo): Field[] {
  return fieldsOf(strategy.schema.properties ?? {});
}

/** How it goes from thinking to the answer, and how either ends: one sentence each. */
export function rules({ thinks, transition, end_probability }: StrategyInfo): string[] {
  if (!thinks) {
    return [
      'Rules the whole generation: there is no phase for thinking and no transition, so T_e does not apply.',
      'The tokens that sampling draws are the text; a drawn end of text ends it, T_total at the latest.',
    ];
  }
  return [
    transition
      ? `After thinking, ${transition.replaceAll('\n', '↵')} is forced; then the answer is sampled.`
      : 'Nothing is forced between thinking and the answer.',
    end_probability === null
      ? 'Has an end rule of its own; the end probability is off unless it is set. T_e steps at the latest.'
      : `Thinking ends when an end token has a probability of ${end_probability} or more, after T_e steps at the latest.`,
  ];
}

function figure(value: number): string {
  return value >= 10_000 ? value.toLocaleString('en').replaceAll(',', '\u202f') : String(value);
}
