/** Numbers as words and figures. */

/** Three decimals. */
export function three(value: number): string {
  return value.toFixed(3);
}

/** ln p to three decimals, for the hover of a probability. */
export function logProbability(p: number): string {
  return p > 0 ? `ln p = ${Math.log(p).toFixed(3)}`.replace('-', '−') : 'ln p = −∞';
}

/** "42 percent"; "under 1 percent" for little, never "0 percent" for something. */
export function percent(share: number): string {
  if (share < 0) return `minus ${percent(-share)}`;
  const rounded = Math.round(share * 100);
  if (rounded === 0 && share > 0) return 'under 1 percent';
  return `${rounded} percent`;
}

/** A share without its zero: .33, 1.5. */
export function bare(value: number): string {
  return String(Number(value.toPrecision(3))).replace(/^(-?)0\./, '$1.');
}

/** 151 936 with thin spaces. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en').replaceAll(',', '\u202f');
}

/** 135 M, 3.1 B: how many parameters a model has. */
export function millions(value: number): string {
  if (value >= 1e9) return `${Number((value / 1e9).toPrecision(3))} B`;
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
  return count(value);
}

/** 621 MiB, 5.8 GiB. */
export function bytes(value: number): string {
  const powers = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let power = 0;
  while (value >= 1000 && power < powers.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${value >= 100 || power === 0 ? Math.round(value) : Number(value.toPrecision(2))} ${powers[power]}`;
}

/** "3 steps", "1 step". */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Seconds for people: 0.57 s, 5.2 s, 42 s, 3 min 05 s. */
export function duration(seconds: number): string {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** Steps a second: 31.04 as 31.0, 204.9 as 205, 48213.7 as 48.2 k. A file may hold any number. */
export function rate(perSecond: number): string {
  if (perSecond >= 1e12) return perSecond.toExponential(1);
  if (perSecond >= 1e9) return `${short(perSecond / 1e9)} G`;
  if (perSecond >= 1e6) return `${short(perSecond / 1e6)} M`;
  if (perSecond >= 1e4) return `${short(perSecond / 1e3)} k`;
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toFixed(1);
}

const short = (value: number): string => String(Number(value.toPrecision(3)));

/** "just now", "5 min ago", "3 h ago", then the date. */
export function ago(then: Date, now: Date): string {
  const seconds = (now.getTime() - then.getTime()) / 1000;
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return then.toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' });
}

/** The letter of a pane: A, B, C, D. */
export function letter(pane: number): string {
  return String.fromCharCode(65 + pane);
}
