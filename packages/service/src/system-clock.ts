import type { Clock } from '@tokenmirror/core';

/** A longer timer of the platform goes off at once. */
const LONGEST_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    const end = performance.now() + ms;
    const next = (): NodeJS.Timeout =>
      setTimeout(
        () => {
          if (end - performance.now() <= 1) callback();
          else timer = next();
        },
        Math.min(LONGEST_MS, end - performance.now()),
      );
    let timer = next();
    return () => {
      clearTimeout(timer);
    };
  },
};
