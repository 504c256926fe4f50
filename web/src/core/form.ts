/** JSON Schema to form fields, and what people type to values: checks in sentences. */

import type { Property } from './events.ts';

export interface Field {
  path: string; // where the server looks for it: "T_e", "strategy.k", "answer.top_p"
  label: string;
  type: 'integer' | 'number' | 'boolean' | 'string';
  help: string;
  initial: string; // the default as it is typed; "" = none
  nullable: boolean; // "" means null
  min: number | null;
  max: number | null;
  above: boolean; // min itself is not allowed
  below: boolean; // max itself is not allowed
  options: string[] | null;
}

const NUMERIC = ['integer', 'number'];

/** The fields of a strategy, drawn from its JSON Schema: the method's own first, the length of the sum last. */
export function fieldsOf(properties: Record<string, Property>, prefix = 'strategy.'): Field[] {
  const entries = Object.entries(properties);
  const last = ([name]: [string, Property]): number => Number(name === 'rescale');
  entries.sort((a, b) => last(a) - last(b) || Number(b[0] === 'k') - Number(a[0] === 'k'));
  return entries.map(([name, property]) => fieldOf(prefix + name, name, property));
}

export function fieldOf(path: string, label: string, property: Property): Field {
  const variants = property.anyOf ?? [property];
  const nullable = variants.some(({ type }) => type === 'null');
  const shape = variants.find(({ type }) => type !== 'null') ?? property;
  const options = shape.enum ?? (shape.const === undefined ? null : [shape.const]);
  const type = shape.type === 'integer' || shape.type === 'number' || shape.type === 'boolean' ? shape.type : 'string';
  const initial = property.default;
  return {
    path,
    label,
    type,
    help: property.description ?? '',
    initial: initial === null || initial === undefined ? '' : String(initial),
    nullable,
    min: shape.minimum ?? shape.exclusiveMinimum ?? null,
    max: shape.maximum ?? shape.exclusiveMaximum ?? null,
    above: shape.exclusiveMinimum !== undefined,
    below: shape.exclusiveMaximum !== undefined,
    options: options ? options.map(String) : null,
  };
}

/** What is wrong with a typed value, as a sentence; null when nothing is. */
export function checkField(field: Field, raw: string): string | null {
  const { label, type, nullable } = field;
  const text = raw.trim();
  if (type === 'string' || type === 'boolean') {
    if (field.options && !field.options.includes(raw)) return `${label} must be one of ${field.options.join(', ')}`;
    return null;
  }
  if (text === '') return nullable ? null : `${label} needs a number`;
  const value = Number(text);
  if (!Number.isFinite(value)) return `${label} must be a number; got ${clip(text)}`;
  if (type === 'integer' && !Number.isSafeInteger(value)) return `${label} must be a whole number; got ${clip(text)}`;
  if (field.min !== null && (field.above ? value <= field.min : value < field.min)) {
    return `${label} must be ${field.above ? 'above' : 'at least'} ${field.min}; got ${clip(text)}`;
  }
  if (field.max !== null && (field.below ? value >= field.max : value > field.max)) {
    return `${label} must be ${field.below ? 'below' : 'at most'} ${field.max}; got ${clip(text)}`;
  }
  return null;
}

/** The JSON value of what was typed; call it only when `checkField` has no complaint. */
export function valueOf(field: Field, raw: string): string | number | boolean | null {
  if (field.nullable && raw.trim() === '') return null;
  if (field.type === 'boolean') return raw === 'true';
  return NUMERIC.includes(field.type) ? Number(raw) : raw;
}

/** What the arrow keys of a number field add. */
export function stepOf(field: Field): number {
  if (field.type === 'integer') return 1;
  const width = field.min !== null && field.max !== null ? field.max - field.min : 10;
  return width <= 1 ? 0.01 : 0.05;
}

/** A slider's track, 0 to 1, bent so that the default lies at two fifths of it: most fields live near it. */
export interface Track {
  position(value: number): number;
  value(position: number): number;
}

/** The track of a bounded number; null where a slider has no sense. */
export function trackOf(field: Field): Track | null {
  const { min, max, initial } = field;
  if (!NUMERIC.includes(field.type) || min === null || max === null || max <= min || initial === '') return null;
  const share = (Number(initial) - min) / (max - min);
  const power = share > 0 && share < 1 ? Math.log(share) / Math.log(share < 0.4 ? 0.4 : share) : 1;
  const step = stepOf(field);
  const inside = (value: number): number => {
    const lowest = field.above ? min + step : min;
    const highest = field.below ? max - step : max;
    return Math.min(highest, Math.max(lowest, value));
  };
  return {
    position: (value) => Math.min(1, Math.max(0, (value - min) / (max - min))) ** (1 / power),
    value: (position) => Number(inside(Math.round((min + (max - min) * position ** power) / step) * step).toFixed(4)),
  };
}

function clip(text: string): string {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}
