// Before anything is painted: the theme that the reader chose here before, if any; otherwise the system's.
"use strict";
try {
  const kept = localStorage.getItem("offlinemeta-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch { /* a browser may refuse storage to local files */ }
