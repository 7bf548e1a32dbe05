"""The look of the report: one style sheet, no font or picture from elsewhere.

Where the reader's system is dark the page is, too; what is printed is light.
"""

from .figures.base import dark_style

_STYLE = """
:root{color-scheme:light;--ink:#1c2127;--soft:#566170;--line:#e1e5ea;--wash:#f5f7f9;--card:#fff;
--large:#b3261e;--large-wash:#fdecea;--moderate:#7a4b00;--moderate-wash:#fff3dc;
--small:#1d6b45;--small-wash:#e6f4ec;--link:#0b5cad;
--code:#eef1f5;--nav:rgba(255,255,255,.96)}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:58px}
body{margin:0;background:var(--wash);color:var(--ink);line-height:1.55;
font:15px/1.55 Inter,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
main,header>div,nav>div,footer{max-width:1180px;margin:0 auto;padding:0 24px}
header{background:var(--card);padding:30px 0 18px}
h1{font-size:27px;line-height:1.2;letter-spacing:-.015em;margin:0 0 8px}
h2{font-size:20px;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:14.5px;margin:0 0 2px}
p{margin:0 0 10px;max-width:78ch}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code{color:inherit;
font:12.5px/1.5 ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;
background:var(--code);border-radius:4px;padding:1px 5px;overflow-wrap:anywhere}
.soft,figcaption{color:var(--soft)}
.runs{display:flex;flex-wrap:wrap;gap:8px 20px;margin-top:12px}
.run{display:flex;align-items:center;gap:8px;font-weight:600}
.run span{font-weight:400;color:var(--soft)}
.dot{width:13px;height:13px;border-radius:4px;flex:none}
nav{position:sticky;top:0;z-index:9;background:var(--nav);
border-bottom:1px solid var(--line)}
nav>div{display:flex;gap:22px;overflow-x:auto;padding-top:9px;padding-bottom:9px;font-size:14px}
nav a{color:var(--soft);white-space:nowrap;font-weight:500}
section{margin:34px 0}
section>p{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(235px,1fr));gap:14px;
margin:16px 0 18px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px 12px;border-top:4px solid var(--line);display:block;color:inherit}
a.tile:hover{text-decoration:none;border-color:#b6bdc6}
.tile.large{border-top-color:var(--large)}.tile.moderate{border-top-color:#d98e04}
.tile.small{border-top-color:#2e9e68}
.tile h3{display:flex;justify-content:space-between;align-items:center;gap:8px;
text-transform:uppercase;letter-spacing:.05em;font-size:12px;color:var(--soft)}
.tile .pair{display:flex;align-items:baseline;gap:8px;margin:5px 0 2px;font-size:25px;
font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile .pair small{font-size:13px;font-weight:400;color:var(--soft);letter-spacing:0}
.tile p{font-size:13px;line-height:1.4;color:var(--soft);margin:0}
.badge{font-size:11.5px;font-weight:600;border-radius:99px;padding:2px 9px;white-space:nowrap;
letter-spacing:0;text-transform:none;background:var(--code);color:var(--soft)}
.badge.large{background:var(--large-wash);color:var(--large)}
.badge.moderate{background:var(--moderate-wash);color:var(--moderate)}
.badge.small{background:var(--small-wash);color:var(--small)}
ul.findings{list-style:none;margin:0;padding:0}
.findings li{display:grid;grid-template-columns:112px 1fr;gap:4px 16px;padding:13px 18px;
border-bottom:1px solid var(--line)}
.findings li:last-child{border-bottom:0}
.findings .kind{font-weight:600;text-transform:capitalize;display:flex;flex-direction:column;
align-items:flex-start;gap:5px}
.findings .who{display:inline-flex;align-items:center;gap:6px;font-size:13px;color:var(--soft);
margin-bottom:1px}
.findings .who .dot{width:10px;height:10px;border-radius:3px}
.findings p{margin:0;max-width:100ch}
.switch{margin-top:6px!important;font-size:13.5px;color:var(--soft)}
.caveat{margin:14px 2px 0;font-size:13.5px;color:var(--soft);max-width:105ch}
.grid{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px;margin-top:14px}
figure{margin:0;padding:14px 16px 10px;min-width:0}
figure.wide{grid-column:1/-1}
figcaption{font-size:13px;line-height:1.45;margin:0 0 4px;max-width:95ch}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{text-align:right;padding:5px 12px;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);font-size:13px}
th:first-child,td:first-child{text-align:left}
tr:last-child td{border-bottom:0}
td .diff{color:var(--soft);font-size:12.5px;margin-left:8px;display:inline-block;min-width:44px}
tr.lead td{font-weight:650}tr.rule td{border-top:2px solid var(--line)}
.scroll{overflow-x:auto;padding:6px 8px}
.pictures{display:grid;gap:14px;padding:12px 0 4px}
.pictures figure{padding:0}
.pictures svg{width:100%;height:auto;display:block;border-radius:6px;background:#dde2e8}
.pictures figcaption{margin:5px 0 0;display:flex;gap:7px;align-items:center}
.pictures .dot{width:10px;height:10px;border-radius:3px}
.key{display:flex;flex-wrap:wrap;gap:6px 20px;font-size:13px;color:var(--soft)}
.key i{display:inline-block;width:22px;height:12px;border:3px solid;border-radius:2px;
vertical-align:-1px;margin-right:6px;background:#6b7480}
footer{padding:6px 24px 46px;color:var(--soft);font-size:13px}
footer p{max-width:105ch}
@media(max-width:860px){.grid{grid-template-columns:minmax(0,1fr)}
.findings li{grid-template-columns:1fr}.findings .kind{flex-direction:row;align-items:center}}
DARK_RULES
@media print{nav{display:none}body{background:#fff}.card,.tile{break-inside:avoid}}
"""
_DARK = """
@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;--ink:#e6eaf0;--soft:#9aa4b0;
--line:#2c343d;--wash:#0e1116;--card:#161b22;--large:#ff8a80;--large-wash:#3b1a19;
--moderate:#f2b84b;--moderate-wash:#35270c;--small:#6fcf97;--small-wash:#12301f;--link:#6cb6ff;
--code:#242b34;--nav:rgba(14,17,22,.96)}
.pictures svg{background:#242b34}
FIGURES}
"""
STYLE = _STYLE.replace("DARK_RULES", _DARK.replace("FIGURES", dark_style()))
