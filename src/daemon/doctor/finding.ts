/** What the doctor has found out about one thing. */
export interface Finding {
  /** `critical`: something can't work so; `warning`: it may not, or not in every case. */
  readonly severity: 'ok' | 'warning' | 'critical';
  /** What was looked at. */
  readonly subject: string;
  readonly found: string;
  /** What a person does about it; null where nothing has to be done. */
  readonly cure: string | null;
}

export function ok(subject: string, found: string): Finding {
  return { severity: 'ok', subject, found, cure: null };
}

export function warning(subject: string, found: string, cure: string): Finding {
  return { severity: 'warning', subject, found, cure };
}

export function critical(subject: string, found: string, cure: string): Finding {
  return { severity: 'critical', subject, found, cure };
}

/** The worst of the severities; `ok` where nothing was found. */
export function worstOf(findings: readonly Finding[]): Finding['severity'] {
  for (const severity of ['critical', 'warning'] as const) {
    if (findings.some((finding) => finding.severity === severity)) return severity;
  }
  return 'ok';
}
