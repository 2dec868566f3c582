/** What a check found. `attention`: it works, and should be otherwise. `skipped`: it could not be looked at. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'attention' | 'failed' | 'skipped';
  readonly message: string;
  readonly remedy?: string;
}

export const ok = (check: string, message: string): Finding => ({ check, status: 'ok', message });
export const skipped = (check: string, message: string): Finding => ({ check, status: 'skipped', message });
export const attention = (check: string, message: string, remedy: string): Finding => ({ check, status: 'attention', message, remedy });
export const failed = (check: string, message: string, remedy: string): Finding => ({ check, status: 'failed', message, remedy });
