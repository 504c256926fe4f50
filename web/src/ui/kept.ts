/** Choices that the browser remembers. */

export function kept<T extends string>(key: string, allowed: readonly T[], otherwise: T): T {
  const saved = localStorage.getItem(`superpose.${key}`);
  return allowed.find((each) => each === saved) ?? otherwise;
}

export function keep(key: string, value: string): void {
  localStorage.setItem(`superpose.${key}`, value);
}
