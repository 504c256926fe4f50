/** The bins of a legend that are pressed: all else in its stream is dimmed, by a word on the stream's root. */

export class Filter {
  bins = $state<string[]>([]);

  toggle(bin: string): void {
    this.bins = this.bins.includes(bin) ? this.bins.filter((each) => each !== bin) : [...this.bins, bin];
  }

  clear(): void {
    this.bins = [];
  }

  /** Dims a stream but for the pressed ones of these bins. */
  apply(root: HTMLElement, shown: readonly { tint: string }[]): void {
    const only = this.bins.filter((bin) => shown.some(({ tint }) => tint === bin));
    if (only.length) root.dataset['only'] = only.join(' ');
    else delete root.dataset['only'];
  }
}

export const filters = { columns: new Filter(), answer: new Filter() };

/** Shows everything again; false if it was shown already. */
export function clearFilters(): boolean {
  const all = Object.values(filters);
  const any = all.some(({ bins }) => bins.length > 0);
  for (const filter of all) filter.clear();
  return any;
}
