/** A mixture under the hand: candidates with weights, and what the acts of the editor make of them. All are pure. */

import { detail } from './detail.ts';
import type { Fork, Step } from './events.ts';

export type Combine = Step['combine'];

export interface Candidate {
  id: number;
  text: string;
  weight: number;
  locked: boolean; // keeps its weight when others are changed together
  fed: number; // what the recorded step fed of it
  believed: number | null; // null = too unlikely to be listed
}

/** What the editor says beneath the candidates: their sum; the rest of them as they can be fed, with a sum of 1. */
export interface Summary {
  sum: number;
  entropy: number | null; // nats; null where a weight is negative
  variation: number | null; // total variation against what was fed; null where the sum is not above 0
  ready: boolean; // whether the server takes it
}

/** How far from 1 a sum may be. */
export const SLACK = 1e-3;
/** What one press of Sharpen does: weights to the power 1/T. */
export const TEMPERATURE = 0.8;
const LISTED = 8; // candidates shown at least, those that were not fed included

/** What was fed, then the likeliest of what was not. */
export function candidatesOf(step: Step): Candidate[] {
  const { rows } = detail(step, null);
  return rows
    .filter(({ fed }, index) => fed !== 0 || index < LISTED)
    .map(({ id, text, fed, believed }) => ({ id, text, weight: fed, locked: false, fed, believed }));
}

/** With one more candidate, of no weight yet; one that is there stays as it is. */
export function add(candidates: Candidate[], { id, text }: { id: number; text: string }, step: Step): Candidate[] {
  if (candidates.some((each) => each.id === id)) return candidates;
  const fed = step.fed.find((each) => each.id === id)?.weight ?? 0;
  const believed = step.believed.find((each) => each.id === id)?.probability ?? null;
  return [...candidates, { id, text, weight: 0, locked: false, fed, believed }];
}

/** All of the weight on one candidate; no lock can hold against that. */
export function oneHot(candidates: Candidate[], id: number): Candidate[] {
  return candidates.map((each) => ({ ...each, weight: each.id === id ? 1 : 0, locked: false }));
}

/** The unlocked weights brought to a sum of 1 with the locked ones; as they are where `stuck` has a complaint. */
export function normalise(candidates: Candidate[]): Candidate[] {
  return share(candidates, ({ weight }) => weight);
}

/** The unlocked weights to the power 1/T, their sum kept: below 1 sharpens, above 1 flattens. */
export function temper(candidates: Candidate[], temperature: number): Candidate[] {
  const free = candidates.filter(({ locked }) => !locked);
  const powered = (weight: number): number => Math.sign(weight) * Math.abs(weight) ** (1 / temperature);
  const before = total(free.map(({ weight }) => weight));
  const after = total(free.map(({ weight }) => powered(weight)));
  if (after === 0) return candidates;
  return candidates.map((each) => (each.locked ? each : { ...each, weight: (powered(each.weight) * before) / after }));
}

/** The unlocked weights as likely as the model believed them, in what the locked ones leave. */
export function toModel(candidates: Candidate[]): Candidate[] {
  return share(candidates, ({ believed }) => believed ?? 0);
}

/** Why the weights cannot be brought to a sum of 1, as a sentence; null when they can. */
export function stuck(candidates: Candidate[]): string | null {
  if (!candidates.length) return 'Add a token first: a mixture needs at least one';
  const locked = total(candidates.filter((each) => each.locked).map(({ weight }) => weight));
  const free = total(candidates.filter((each) => !each.locked).map(({ weight }) => weight));
  if (locked > 1 + SLACK) return `The locked weights alone sum to ${locked.toFixed(3)}: unlock or lower one`;
  if (free <= 0 && locked < 1 - SLACK) return 'Give an unlocked token some weight first';
  return null;
}

/** Why the weights cannot be combined in this way, as a sentence; null when they can. */
export function unfit(candidates: Candidate[], combine: Combine): string | null {
  const fed = candidates.filter(({ weight }) => weight !== 0).length;
  if (combine !== 'slerp' || fed <= 2) return null;
  return `An arc lies between two tokens, and ${fed} have a weight: remove some, or combine by weighted sum`;
}

export function summary(candidates: Candidate[], step: Step): Summary {
  const weights = candidates.map(({ weight }) => weight);
  const sum = total(weights);
  const listed = new Set(candidates.map(({ id }) => id));
  const gone = step.fed.filter(({ id }) => !listed.has(id)).map(({ weight }) => weight);
  const ready = Math.abs(sum - 1) <= SLACK && weights.every(Number.isFinite);
  const shares = ready ? weights : weights.map((weight) => weight / sum);
  const moved = [...candidates.map(({ fed }, at) => (shares[at] ?? 0) - fed), ...gone, step.fed_rest?.weight ?? 0];
  return {
    sum,
    entropy: sum > 0 && shares.every((share) => share >= 0) ? entropy(shares) : null,
    variation: sum > 0 ? total(moved.map(Math.abs)) / 2 : null,
    ready,
  };
}

/** The mixture as a fork takes it; a candidate without weight is no part of it. */
export function mixtureOf(candidates: Candidate[], combine: Combine): NonNullable<Fork['mixture']> {
  const fed = candidates.filter(({ weight }) => weight !== 0);
  return { ids: fed.map(({ id }) => id), weights: fed.map(({ weight }) => weight), combine };
}

function share(candidates: Candidate[], part: (candidate: Candidate) => number): Candidate[] {
  const locked = total(candidates.filter((each) => each.locked).map(({ weight }) => weight));
  const parts = total(candidates.filter((each) => !each.locked).map(part));
  if (parts <= 0 || locked > 1 + SLACK) return candidates;
  const scale = Math.max(0, 1 - locked) / parts;
  return candidates.map((each) => (each.locked ? each : { ...each, weight: part(each) * scale }));
}

function entropy(shares: number[]): number {
  return -total(shares.filter((share) => share > 0).map((share) => share * Math.log(share)));
}

function total(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
