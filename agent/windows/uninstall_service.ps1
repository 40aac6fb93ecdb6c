<#
.SYNOPSIS
Removes the service RECO3Agent and every file that its installer made.

.DESCRIPTION
Works after an installation that was cut short, with a broken virtual environment, and when nothing is there.
It refuses to run without an administrator's rights.

.PARAMETER KeepConfig
Keep the config, the key and the agent's memory, for a later installation.

.PARAMETER DryRun
Print every step and change nothing.
#>
[CmdletBinding()]
param(
    [switch] $KeepConfig,
    [switch] $DryRun
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
. (Join-Path -Path $PSScriptRoot -ChildPath 'python_finder.ps1')

if (-not $DryRun -and -not (Test-Administrator)) {
    Write-Host 'This must be run as administrator: it removes a service, and files that only administrators may touch.'
    Write-Host 'Open the start menu, type PowerShell, choose "Run as administrator", and run the same line again.'
    exit 1
}
$python = @(Find-Python)
if ($python.Count -eq 0) {
    Write-PythonMissing
    Write-Host 'Or remove it by hand, as administrator:'
    Write-Host '    sc.exe stop RECO3Agent'
    Write-Host '    sc.exe delete RECO3Agent'
    Write-Host '    reg.exe delete HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\RECO3Agent /f'
    Write-Host 'and then delete venv, venv.new, venv.old, config.yaml, state and logs in the agent folder.'
    exit 1
}
$program = $python[0]
$first = @($python | Select-Object -Skip 1)

$installer = Join-Path -Path (Split-Path -Path $PSScriptRoot -Parent) -ChildPath 'common\install.py'
$arguments = $first + @('-I', $installer, 'windows', 'uninstall')
if ($KeepConfig) { $arguments += '--keep-config' }
if ($DryRun) { $arguments += '--dry-run' }
$ErrorActionPreference = 'Continue'
& $program @arguments
exit $LASTEXITCODE
