/** Whether UTF-8 can hold a text. The method is in every Node we run on, and not yet in the library of ES2023. */
export const isWellFormed = (text: string & { readonly isWellFormed?: () => boolean }): boolean =>
  text.isWellFormed?.() ?? true
