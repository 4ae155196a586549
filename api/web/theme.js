// The chosen look, before anything is drawn: light, dark, or (nothing stored) as the system has it. Loaded by the page's head, no module.
'use strict';
try {
  const chosen = localStorage.getItem('yoda-theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch { /* no storage: as the system has it */ }
