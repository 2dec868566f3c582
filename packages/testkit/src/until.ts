/** Longer than anything takes on a busy machine; a test that is right never waits so long. */
const PATIENCE_MS = 120_000;
const [SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS] = [5, 50];

/** Waits for a condition, looking every few ms; fails with its name when that takes too long. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = PATIENCE_MS): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (let pause = SHORTEST_PAUSE_MS; ; pause = Math.min(pause * 1.2, LONGEST_PAUSE_MS)) {
    if (await condition()) return;
    if (performance.now() > end) throw new Error(`not within ${String(timeoutMs)} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
